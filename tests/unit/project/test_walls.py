"""The walls hold, and the checker sees a violation of each kind."""

from __future__ import annotations

from pathlib import Path

from tests.support import walls

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "platform" / "adbeam"
FOLDERS = (ROOT / "platform", ROOT / "tests", ROOT / "benchmarks")


def _planted(tmp_path: Path, **files: str) -> Path:
    """A package `adbeam` with these files; `logs__reading` is logs/reading.py."""
    package = tmp_path / "adbeam"
    for name, text in files.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path.parent, package):
            (folder / "__init__.py").touch()
        path.write_text(text)
    return package


def test_rooms_import_only_rooms_below_them() -> None:
    assert walls.upward(walls.arrows(PACKAGE)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert [[str(arrow) for arrow in circle] for circle in walls.file_circles(walls.arrows(PACKAGE))] == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert [[str(arrow) for arrow in circle] for circle in walls.package_cycles(walls.arrows(PACKAGE))] == []


def test_no_folder_is_crowded() -> None:
    assert walls.crowded(FOLDERS) == []


def test_no_file_is_long() -> None:
    assert walls.long(FOLDERS) == []


def test_tests_import_no_benchmark() -> None:
    assert walls.foreign(ROOT / "tests", "benchmarks") == []


def test_every_room_of_the_order_exists() -> None:
    rooms = {walls.room_of(module) for module in walls.modules(PACKAGE)} - {""}
    assert rooms - {"__main__"} == set(walls.ORDER)


def test_a_planted_upward_arrow_is_named_with_its_line(tmp_path: Path) -> None:
    package = _planted(
        tmp_path, logs__reading="x = 1\n\n\ndef f():\n    from adbeam.serving import api\n", serving__api=""
    )
    (wrong,) = walls.upward(walls.arrows(package))
    assert "logs/reading.py:5: adbeam.logs.reading imports adbeam.serving.api: serving lies above logs" in wrong


def test_a_planted_room_without_a_place_is_named(tmp_path: Path) -> None:
    package = _planted(tmp_path, attic__box="from adbeam import errors\n", errors="")
    (wrong,) = walls.upward(walls.arrows(package))
    assert "attic has no place in the order of rooms" in wrong


def test_a_planted_circle_of_files_is_named_with_its_lines(tmp_path: Path) -> None:
    package = _planted(tmp_path, logs__a="from adbeam.logs import b\n", logs__b="\nfrom adbeam.logs.a import x\n")
    ((first, second),) = walls.file_circles(walls.arrows(package))
    assert str(first).endswith("logs/a.py:1: adbeam.logs.a imports adbeam.logs.b")
    assert str(second).endswith("logs/b.py:2: adbeam.logs.b imports adbeam.logs.a")


def test_a_planted_circle_of_folders_without_one_of_files_is_named(tmp_path: Path) -> None:
    package = _planted(
        tmp_path,
        serving__queue__request="from adbeam.serving.http import bodies\n",
        serving__queue__loop="",
        serving__http__bodies="",
        serving__http__app="from adbeam.serving.queue import loop\n",
    )
    found = walls.arrows(package)
    assert walls.file_circles(found) == []
    (circle,) = walls.package_cycles(found)
    assert {arrow.path.name for arrow in circle} == {"request.py", "app.py"}


def test_a_planted_crowd_and_a_planted_long_file_are_named(tmp_path: Path) -> None:
    for number in range(walls.MOST_FILES + 1):
        (tmp_path / f"file{number}.py").write_text("\n" * number)
    (tmp_path / "file0.py").write_text("x = 1\n" * (walls.MOST_LINES + 1))
    assert walls.crowded([tmp_path]) == [f"{tmp_path}: 15 Python files, at most 14"]
    assert walls.long([tmp_path]) == [f"{tmp_path / 'file0.py'}:301: 301 lines, at most 300"]


def test_a_planted_import_of_a_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("\nfrom benchmarks.rig import replicas\n")
    assert walls.foreign(tmp_path, "benchmarks") == [f"{tmp_path / 'test_x.py'}:2: imports benchmarks.rig"]
