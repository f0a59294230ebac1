"""The walls of the house: which room may import which, no circles, no crowded folders, no long files.

A room is a folder or file directly under `adbeam`; it may import only rooms that stand before it in ORDER. Inside every
folder the entries (files and folders) import each other in one direction only. Imports inside functions and for type
checking count: they are arrows all the same.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ORDER = (
    "errors", "imports", "settings", "consent", "identity", "targeting", "records", "recorder", "workdir", "artifacts",
    "signals", "pseudonyms", "sqlite_wal", "declared", "ray_data", "logs", "features", "tokens", "model",
    "bundle_settings", "pricing", "bundle", "objectives",
    "decoding", "beams", "catalogue", "list_rules", "budgets", "inference", "evaluation", "training", "foundation",
    "rewards",
    "export",
    "serving", "loadtest", "online", "market", "config", "sweep", "dashboards", "jobs", "cluster", "operations",
    "reference", "library", "quickstart", "cli",
)  # fmt: skip
"""The rooms from the ground up."""

MOST_FILES = 14
MOST_LINES = 300


@dataclass(frozen=True)
class Arrow:
    """One import: module `source` imports module `target`."""

    source: str
    target: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.source} imports {self.target}"


def modules(package: Path) -> dict[str, Path]:
    """The Python files of a package by module name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache  # several walls are read off the same arrows
def arrows(package: Path) -> tuple[Arrow, ...]:
    """All imports of the package's modules by each other, wherever they stand."""
    known = modules(package)
    found = []
    for source, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            found += [Arrow(source, target, path, line) for target, line in _targets(node, known) if target != source]
    return tuple(found)


def _targets(node: ast.AST, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name in known:
                yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom) and node.module in known:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield (inner if inner in known else node.module), alias.lineno


def room_of(module: str) -> str:
    """`logs` of `adbeam.logs.validate`; the package itself has no room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def upward(found: Iterable[Arrow], order: Sequence[str] = ORDER) -> list[str]:
    """Arrows from a room to one that does not stand before it, and rooms without a place in the order."""
    place = {room: number for number, room in enumerate(order)}
    wrong = []
    for arrow in found:
        source, target = room_of(arrow.source), room_of(arrow.target)
        if not source or not target or source == target:
            continue
        missing = [room for room in (source, target) if room not in place]
        if missing:
            wrong.append(f"{arrow}: {missing[0]} has no place in the order of rooms")
        elif place[target] > place[source]:
            wrong.append(f"{arrow}: {target} lies above {source}")
    return wrong


def file_circles(found: Iterable[Arrow]) -> list[list[Arrow]]:
    """Circles of files, each as the arrows inside it."""
    return _circles([(arrow.source, arrow.target, arrow) for arrow in found])


def package_cycles(found: Iterable[Arrow]) -> list[list[Arrow]]:
    """Circles between the entries of one folder, at every level, where at least one of them is a folder."""
    levels: dict[str, list[tuple[str, str, Arrow]]] = defaultdict(list)
    for arrow in found:
        source, target = arrow.source.split("."), arrow.target.split(".")
        depth = next((n for n, pair in enumerate(zip(source, target, strict=False)) if pair[0] != pair[1]), None)
        if depth is not None:  # else one is the folder of the other: its __init__, which may look inside
            ends = ".".join(source[: depth + 1]), ".".join(target[: depth + 1])
            levels[".".join(source[:depth])].append((*ends, arrow))
    circles = [circle for level in levels.values() for circle in _circles(level)]
    return [circle for circle in circles if any(_parent(arrow.source) != _parent(arrow.target) for arrow in circle)]


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _circles(edges: Sequence[tuple[str, str, Arrow]]) -> list[list[Arrow]]:
    """The strongly connected parts of more than one node, as the arrows inside each."""
    reach: dict[str, set[str]] = {}
    after: dict[str, set[str]] = defaultdict(set)
    for source, target, _ in edges:
        after[source].add(target)
    for node in list(after):
        seen: set[str] = set()
        todo = list(after[node])
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += after.get(here, ())
        reach[node] = seen
    parts: dict[frozenset[str], list[Arrow]] = defaultdict(list)
    for source, target, arrow in edges:
        if source in reach.get(target, ()):
            part = frozenset(node for node in reach[source] if source in reach.get(node, ()))
            parts[part].append(arrow)
    return list(parts.values())


def files_in(folders: Iterable[Path]) -> dict[Path, int]:
    """How many Python files stand in each folder under these."""
    return Counter(path.parent for path in _python(folders))


def lines_of(folders: Iterable[Path]) -> dict[Path, int]:
    """How many lines each Python file under these folders has."""
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _python(folders)}


def crowded(folders: Iterable[Path], most: int = MOST_FILES) -> list[str]:
    """Folders with more than `most` Python files."""
    counts = files_in(folders)
    return [f"{folder}: {count} Python files, at most {most}" for folder, count in counts.items() if count > most]


def long(folders: Iterable[Path], most: int = MOST_LINES) -> list[str]:
    """Files with more than `most` lines."""
    lengths = lines_of(folders)
    return [f"{path}:{most + 1}: {length} lines, at most {most}" for path, length in lengths.items() if length > most]


def foreign(folder: Path, package: str) -> list[str]:
    """Imports of `package` under `folder`, for example of benchmarks by tests."""
    wrong = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            wrong += [f"{path}:{node.lineno}: imports {name}" for name in names if name.split(".")[0] == package]
    return wrong


def _python(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]
