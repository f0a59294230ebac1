"""docs/extending.md is true: its code is that of the example, its tables and YAML are those of the registries."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from adbeam.imports.extension_points import KINDS

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "outside_parts"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
POINTS = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


def test_the_code_of_the_page_is_the_code_of_the_example() -> None:
    files = {path.read_text(encoding="utf-8"): path.name for path in EXAMPLE.glob("outside_parts/*.py")}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    assert [block for block in blocks if block not in files] == []
    linked = re.findall(r"`examples/outside_parts/outside_parts/(\w+\.py)`", PAGE)
    shown = {files[block] for block in blocks} | set(linked)
    assert shown == {path.name for path in EXAMPLE.glob("outside_parts/*.py")} - {"__init__.py"}


def test_the_table_has_every_kind_with_its_names() -> None:
    rows = re.findall(r"^\| [\w ]+ \| [^|]+ \| `(adbeam\.\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)
    told = {group: re.findall(r"`(\w+)`", names) for group, names in rows}
    assert told == {str(registry.group): list(registry.names) for registry in KINDS}


def test_the_example_brings_one_part_of_each_kind_and_the_page_names_each() -> None:
    assert set(POINTS) == {registry.group for registry in KINDS}
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == len(KINDS) and all(yaml.safe_load(block) for block in blocks)
    for group, parts in POINTS.items():
        ((name, _),) = parts.items()
        assert any(re.search(rf"\b{name}\b", block) for block in blocks), (group, name)
