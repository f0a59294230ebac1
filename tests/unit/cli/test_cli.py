"""The command line: light to load, quiet, and its generated pages are current."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.operations.doctor import Finding, lines, to_json
from adbeam.reference.build import doc_files

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "ray", "numpy", "pydantic", "pyarrow", "yaml", "rich")


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_help_is_quiet_and_loads_nothing_heavy() -> None:
    code = f"""
import sys
sys.argv = ["adbeam", "--help"]
from adbeam.cli import main
assert "typer" not in sys.modules, "the package itself is empty until main runs"
try:
    main()
except SystemExit as end:
    assert not end.code
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    answer = _run(code)
    assert answer.stdout.rstrip().endswith("[]") and answer.stderr == ""
    assert "Train LazyAR with Ray Train and DeepSpeed" in answer.stdout
    assert "..." not in answer.stdout.replace("[ARGS]...", ""), "every verb tells its whole first line"


def test_main_stays_the_entry_point_after_it_ran() -> None:
    code = """
import adbeam.cli.root
from adbeam.cli import main
assert callable(main)
"""
    _run(code)


def test_docs_build_writes_what_is_out_of_date_and_checks_the_rest(tmp_path: Path) -> None:
    current = CliRunner().invoke(app, ["docs", "build", "--check", "--out", str(ROOT / "docs")])
    assert current.exit_code == 0, current.output
    behind = CliRunner().invoke(app, ["docs", "build", "--check", "--out", str(tmp_path)])
    assert behind.exit_code == 1 and "run adbeam docs build" in behind.output
    CliRunner().invoke(app, ["docs", "build", "--out", str(tmp_path)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == doc_files()


def test_findings_are_a_line_each_with_their_remedy() -> None:
    findings = [Finding("disk", "ok", "9 GiB free"), Finding("port", "warning", "8000 is in use", "end what holds it")]
    assert lines(findings) == [
        "ok       disk                 9 GiB free",
        "warning  port                 8000 is in use; end what holds it",
    ]
    assert [finding["remedy"] for finding in json.loads(to_json(findings))] == ["", "end what holds it"]
