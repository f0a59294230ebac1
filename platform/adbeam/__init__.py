"""adbeam: generative ad recommendation, trained on Ray and served with beams that follow the load.

`Config`, `Bundle`, `Recommender`, `UserError`, `steps` and `__version__` are the stable names (docs/library.md); each
is loaded when it is first asked for, so that `import adbeam` loads nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from adbeam.imports.lazy import names_of
from adbeam.imports.moved import MovedModules

if TYPE_CHECKING:
    from adbeam.bundle import Bundle
    from adbeam.config import Config
    from adbeam.errors import UserError
    from adbeam.library import steps
    from adbeam.library.recommender import Recommender

    __version__: str

__all__ = ["Bundle", "Config", "Recommender", "UserError", "__version__", "steps"]

sys.meta_path.append(MovedModules())

_named = names_of(
    __name__,
    {
        "Bundle": "adbeam.bundle",
        "Config": "adbeam.config",
        "Recommender": "adbeam.library.recommender",
        "UserError": "adbeam.errors",
        "steps": "adbeam.library",
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adbeam")
    return _named(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
