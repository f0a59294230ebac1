"""A wheel and a source distribution: what is inside, and that they work where nothing of the repository is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.tools import module

ROOT = Path(__file__).parents[3]
COPIED = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile",
    "constraints.txt", "platform", "jobs", "serving", "dashboards", "examples", "docs", "website",
)  # fmt: skip
SMOKE = """
import sys
import adbeam
from adbeam.config import Config
from adbeam.serving.deploy.config_file import read_serve_config
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.http import console
from adbeam.settings import SHIPPED
from pathlib import Path

assert sys.argv[1] in adbeam.__file__, adbeam.__file__
assert adbeam.__version__
assert Config.load("jobs/quickstart.yaml").logs.source == "completejourney"
assert read_serve_config("serving/ads.yaml")["applications"]
assert read_policy("serving/policies/tabs.yaml").policy == "tabs"
assert len(list((SHIPPED / "dashboards").glob("*.json"))) == 4
assert (Path(console.__file__).parent / "console_page" / "console.html").is_file()
print("works")
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, made of the source distribution, which is made of a copy of the repository."""
    module("build", "dev")
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    return dist


def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def smoke(python: str, folder: Path, place: str, **environment: str) -> None:
    """The package under `place` works in an empty folder: verbs, YAML, console and dashboards."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> str:
        environs = {**kept, **environment}
        answer = subprocess.run([python, *words], cwd=folder, env=environs, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr[-2000:]
        return answer.stdout

    assert run("-c", SMOKE, place).strip() == "works"
    for words in (["--help"], ["config", "show", "-c", "jobs/quickstart.yaml"], ["dashboards", "build"]):
        run("-m", "adbeam.cli", *words)


def test_the_wheel_holds_what_an_installation_needs(dist: Path) -> None:
    names = set(zipfile.ZipFile(wheel(dist)).namelist())
    needed = {"jobs/quickstart.yaml", "serving/ads.yaml", "serving/serve.env", "dashboards/adbeam-serving.json"}
    assert {f"adbeam/shipped/{name}" for name in needed} <= names
    assert {"adbeam/py.typed", "adbeam/serving/http/console_page/console.html"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or name.endswith(".pyc")]
    assert len(list(dist.glob("*.tar.gz"))) == 1


def test_it_works_beside_its_dependencies_and_away_from_the_repository(dist: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "website", tmp_path / "elsewhere"
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel(dist))], check=True)
    smoke(sys.executable, folder, str(site), PYTHONPATH=str(site))


@pytest.mark.full
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_installs_into_an_empty_environment(dist: Path, tmp_path: Path, kind: str) -> None:
    (made,) = dist.glob(kind)
    environment, folder = tmp_path / "venv", tmp_path / "elsewhere"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    more = {"UV_FIND_LINKS": links} if links else {}
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--constraint"]
    command = [*install, str(ROOT / "constraints.txt"), f"{made}[quickstart]"]
    answer = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    smoke(python, folder, str(environment))
    code = "import sys, adbeam; adbeam.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([python, "-c", code], cwd=folder).returncode == 0
