"""What pyproject.toml cannot say: the package carries `jobs/`, `serving/` and `dashboards/` of the repository along.

So `adbeam quickstart` and the YAML that the documentation names work where only a wheel is installed."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOLDERS = ("jobs", "serving", "dashboards")


class BuildWithFiles(build_py):
    """The package, then the folders under adbeam/shipped; an editable install reads those of the repository."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in FOLDERS:
                target = Path(self.build_lib, "adbeam", "shipped", folder)
                copytree(ROOT / folder, target, dirs_exist_ok=True, ignore=ignore_patterns("*.py", "__pycache__"))


setup(cmdclass={"build_py": BuildWithFiles})
