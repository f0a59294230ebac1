"""From catalogues to semantic IDs: embeddings, quantizers and their quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.tokens.pipeline import TokenizeSettings, Tokens


def tokenize(config: TokenizeSettings) -> Tokens:
    """Give every item of `config.work_dir / "prepared"` a SID, in `config.work_dir / "tokens"`, unless it is current.

    Raises UserError naming the field and the remedy when the catalogue cannot be used or a quality gate fails.
    """
    from adbeam.tokens.pipeline import tokenize as run

    return run(config)
