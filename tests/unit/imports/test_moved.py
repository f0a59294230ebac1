"""Old module names lead to the new ones with a warning, and the page that lists them is true."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adbeam.imports.moved import MOVED

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "moved.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)


def test_the_page_names_only_files_that_exist() -> None:
    assert len(ROWS) > 250
    assert [new for _, new in ROWS if not (ROOT / new).is_file()] == []


def test_the_page_names_every_old_module_of_the_table() -> None:
    listed = dict(ROWS)
    for old, new in MOVED.items():
        module = f"platform/adbeam/{new.replace('.', '/')}"
        found = listed[f"platform/adbeam/{old.replace('.', '/')}.py"]
        assert found == f"{module}.py" or (found.startswith(f"{module}/") and (ROOT / module / "__init__.py").is_file())


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("adbeam.serving.query", "adbeam.serving.engine.request", "Query"),
        ("adbeam.tokens.index", "adbeam.catalogue.index", "SidIndex"),
        ("adbeam.status", "adbeam.operations.status", "read_status"),
    ],
)
def test_an_old_name_is_the_new_module_and_warns(old: str, new: str, name: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new) and hasattr(module, name)


def test_names_of_a_module_that_is_a_package_now_are_found_and_warn() -> None:
    package = importlib.import_module("adbeam.decoding.trie")
    with pytest.warns(DeprecationWarning, match=r"adbeam\.decoding\.trie is now adbeam\.decoding\.trie\.trie"):
        trie = package.Trie
    assert trie is importlib.import_module("adbeam.decoding.trie.trie").Trie
    with pytest.raises(AttributeError):
        _ = package.Leaf


def test_every_old_name_leads_somewhere() -> None:
    modules = {new: ROOT / "platform/adbeam" / new.replace(".", "/") for new in MOVED.values()}
    assert [
        new for new, at in modules.items() if not (at.with_suffix(".py").is_file() or (at / "__init__.py").is_file())
    ] == []


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("adbeam.serving.nowhere")


def test_the_package_itself_loads_nothing_heavy() -> None:
    code = "import sys, adbeam; print(sorted({'torch', 'ray', 'numpy', 'pydantic'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
