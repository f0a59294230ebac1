"""Pages of the repository on the site: links out of docs/ lead to copies under `repository/`, where links lead back.

`docs/` is read in a repository too, so its pages link `../CHANGELOG.md` or `../benchmarks/results/X.json` as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PREFIX = "repository/"
FIRST = ("CONTRIBUTING.md", "CHANGELOG.md", "README.md", "benchmarks/README.md", "examples/README.md")
"""Pages of the navigation, from which others are reached."""
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)((?:#[^)]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to, and those that these link to."""
    to_read = [(f"docs/{file.src_uri}", Path(str(file.abs_src_path))) for file in files.documentation_pages()]
    to_read += [(name, ROOT / name) for name in FIRST]
    added: set[str] = set()
    while to_read:
        place, path = to_read.pop()
        if not place.startswith("docs/") and place not in added:
            added.add(place)
            files.append(File.generated(config, PREFIX + place, abs_src_path=str(path)))
        if path.suffix != ".md":
            continue
        for _, target, _ in LINK.findall(path.read_text(encoding="utf-8")):
            there = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            if not there.startswith("docs/") and there not in added and (ROOT / there).is_file():
                to_read.append((there, ROOT / there))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between docs/ and the rest of the repository, as places on the site."""
    here = page.file.src_uri
    place = here.removeprefix(PREFIX) if here.startswith(PREFIX) else f"docs/{here}"

    def moved(match: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[2]))
        on_site = there.removeprefix("docs/") if there.startswith("docs/") else PREFIX + there
        return match[1] + posixpath.relpath(on_site, posixpath.dirname(here) or ".") + match[3]

    return LINK.sub(moved, markdown)
