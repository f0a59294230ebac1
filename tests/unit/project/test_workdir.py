"""The names of a work_dir's layout stand in adbeam/workdir.py alone, and they are what is on disk."""

from __future__ import annotations

import ast
from pathlib import Path

from adbeam import workdir
from adbeam.workdir import WorkDir

ROOT = Path(__file__).parents[3]
FOLDERS = (ROOT / "platform", ROOT / "tests" / "support", ROOT / "benchmarks")
LAYOUT = {name: getattr(WorkDir(Path()), name) for name, kind in vars(WorkDir).items() if isinstance(kind, property)}
NAMES = {path.name for path in LAYOUT.values()} | {workdir.QUARANTINE}


def spelled(path: Path) -> list[str]:
    """Where a file joins a name of the layout to a path, or globs below one, as "file:line: name"."""
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not _of_repository(node.left):
            _note(node.right, found)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "glob" in node.func.attr:
            for argument in node.args:
                _note(argument, found)
        elif isinstance(node, ast.Constant) and str(node.value).endswith(workdir.SIDS) and "\n" not in str(node.value):
            found[node.lineno] = str(node.value)
    return [f"{path}:{line}: {name}" for line, name in sorted(found.items())]


def _note(node: ast.expr, found: dict[int, str]) -> None:
    """Note the folder that a literal path, or a formatted one, begins with."""
    begin = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    if isinstance(begin, ast.Constant) and isinstance(begin.value, str) and begin.value.split("/")[0] in NAMES:
        found[node.lineno] = begin.value


def _of_repository(node: ast.expr) -> bool:
    """Whether a path begins at the repository, which has a folder `serving` of its own, or at a benchmark's root."""
    while isinstance(node, ast.BinOp):
        node = node.left
    return (isinstance(node, ast.Name) and node.id.lower() == "root") or "__file__" in ast.unparse(node)


def test_no_name_of_the_layout_is_typed_twice() -> None:
    files = {path for folder in FOLDERS for path in folder.rglob("*.py")} - {Path(workdir.__file__).resolve()}
    assert [place for path in sorted(files) for place in spelled(path)] == []


def test_a_name_that_is_typed_again_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "step.py"
    path.write_text(
        'a = work_dir / "prepared" / "x"\nb = "tokens/sids.parquet"\nc = work_dir.glob(f"training_runs/*/{name}")\n'
        'd = ROOT / "serving" / "ads.yaml"\ne = {"prepared": 1}\n'
    )
    assert spelled(path) == [
        f"{path}:1: prepared", f"{path}:2: tokens/sids.parquet", f"{path}:3: training_runs/*/"
    ]  # fmt: skip


def test_the_layout_is_what_older_work_dirs_hold() -> None:
    assert {name: str(path) for name, path in LAYOUT.items()} == {
        "log": "log",
        "prepared": "prepared",
        "sequences": "prepared/sequences",
        "tokens": "tokens",
        "sids": "tokens/sids.parquet",
        "training_rows": "training_rows",
        "list_rows": "list_rows",
        "training_runs": "training_runs",
        "training": "training",
        "bundles": "bundles",
        "foundation": "foundation",
        "foundation_rows": "foundation_rows",
        "foundation_runs": "foundation_runs",
        "representations": "representations",
        "reward": "reward",
        "lists": "lists",
        "online": "online",
        "ledger": "online/ledger.sqlite",
        "evaluation": "evaluation",
        "serving": "serving",
        "histories": "serving/histories.sqlite",
        "ad_updates": "serving/ads.sqlite",
        "events": "serving/events",
        "requests": "serving/requests",
    }


def test_a_layout_knows_its_absolute_self() -> None:
    assert WorkDir.of("runs/x").resolve().tokens == Path("runs/x").resolve() / "tokens"
