"""The configuration page names every key there is, and is current."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from adbeam.cluster.config import ClusterConfig
from adbeam.config import Config
from adbeam.reference.configuration import reference
from adbeam.serving.config import ServingConfig

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def _keys(section: type[BaseModel], place: str = "") -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        key = f"{place}.{name}" if place else name
        inner = field.annotation
        found |= _keys(inner, key) if isinstance(inner, type) and issubclass(inner, BaseModel) else {key}
    return found


def test_every_key_is_on_the_page() -> None:
    text = reference()
    for section in (Config, ServingConfig, ClusterConfig):
        assert [key for key in _keys(section) if f"`{key}`" not in text and f"### {key}" not in text] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: adbeam docs build"
