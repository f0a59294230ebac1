"""The page on the architecture is true: files exist, the tree is whole, and the field's words lead to their files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "platform" / "adbeam"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = re.search(r"```\n(platform/adbeam/\n.*?)```", PAGE, re.DOTALL)
INDEX = re.findall(
    r"^\| ([^|]+) \| ([^|`]+) \| `([^`]+\.py)` \|$", PAGE.split("## Index of behaviours")[1], re.MULTILINE
)
FIELD_WORDS = (
    "hot swap", "batcher", "scheduler", "load shedding", "backpressure", "checkpoint", "resume", "resharding",
    "preemption", "beam search", "constrained decoding", "quantization", "CUDA graphs", "autoscaling", "roll-out",
    "fallback", "result cache", "rate limit", "authentication", "OpenRTB", "pseudonyms", "quarantine", "deduplication",
    "sequence building", "semantic ID index", "codebook", "precision", "drift", "update log",
    "embedder", "RQ-KMeans", "reward model", "calibration", "preference",
    "DPO", "GRPO", "RSPO", "off-policy", "continual training", "validation gate", "ledger", "delayed feedback join",
    "market simulate", "load generator", "load trace", "alert", "Grafana", "KubeRay", "SBOM", "doctor",
)  # fmt: skip
"""What somebody who knows the field and not this code would search for."""
SHARED = {
    # The Serve deployment of that name, which stands in users' YAML; the endpoint's answers without an endpoint.
    "Recommender": ("serving/replica.py", "library/recommender.py"),
    "fit": ("training/launch.py",),  # of a model
    "Query": ("dashboards/panels.py",),  # to Prometheus
    "publish": ("catalogue/live.py", "online/stages.py"),  # gauges; the last stage of a round
}
"""Names of the table that mean another thing in another room."""


def _tree() -> tuple[list[Path], list[Path]]:
    """Files and folders that the tree names; the files of a wing stand in its line."""
    assert TREE is not None
    files: list[Path] = []
    folders: list[Path] = []
    above: dict[int, Path] = {}
    for line in TREE[1].splitlines():
        name, _, gloss = line.strip().partition(" ")
        depth = len(line) - len(line.lstrip())
        path = (above[depth - 2] if depth else ROOT) / name
        if not name.endswith("/"):
            files.append(path)
            continue
        folders.append(path)
        above[depth] = path
        if depth == 4:
            files += [path / f"{stem}.py" for stem in gloss.split(":")[0].split()]
    return files, folders


def test_what_the_tree_names_exists() -> None:
    files, folders = _tree()
    assert [str(path) for path in files if not path.is_file()] == []
    assert [str(path) for path in folders if not path.is_dir()] == []


def test_the_tree_names_every_room_wing_and_file_of_the_package() -> None:
    files, folders = _tree()
    code = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert {str(path) for path in code - set(files)} == set()
    assert {path.parent for path in code} <= set(folders)


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`([\w/-]+/[\w.-]+\.\w+|\w+\.py)`", PAGE))
    assert len(named) > 150
    assert [name for name in sorted(named) if not ((ROOT / name).exists() or (PACKAGE / name).exists())] == []


@pytest.mark.parametrize(("behaviour", "word", "file"), INDEX, ids=[word for _, word, _ in INDEX])
def test_the_fields_word_is_in_the_path_or_the_first_line(behaviour: str, word: str, file: str) -> None:
    text = (PACKAGE / file).read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    assert _plain(word) in _plain(file) or _plain(word) in _plain(first), f"{behaviour}: {word} is not in {first!r}"


def test_the_index_is_long_and_has_the_fields_words() -> None:
    assert len(INDEX) >= 40
    assert len({behaviour for behaviour, _, _ in INDEX}) == len(INDEX)
    assert set(FIELD_WORDS) - {word for _, word, _ in INDEX} == set()


def test_what_is_defined_once_is_defined_there() -> None:
    table = PAGE.split("## Defined once")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| `([^`]+\.py)`: ([^|]+) \|", table, re.MULTILINE)
    assert len(rows) >= 15
    for file, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(class |def )?{name}\b", (PACKAGE / file).read_text(), re.MULTILINE), name
            assert set(_homes(name)) - {file, *SHARED.get(name, ())} == set(), name


def _homes(name: str) -> list[str]:
    """Files of the package that define a class or function of that name."""
    defines = re.compile(rf"^(class|def) {name}\b", re.MULTILINE)
    return [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if defines.search(path.read_text())]


def _plain(text: str) -> str:
    """Lower case, one blank for any of the marks that join words."""
    return re.sub(r"[\s_/-]+", " ", text.lower())
