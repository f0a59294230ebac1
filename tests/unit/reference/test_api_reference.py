"""The API page is current and names every path and field."""

from __future__ import annotations

import json
from pathlib import Path

from adbeam.reference.api import document, page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_and_the_document_are_current() -> None:
    openapi = document()
    assert json.loads((DOCS / "openapi.json").read_text()) == json.loads(json.dumps(openapi)), "adbeam docs build"
    assert (DOCS / "api.md").read_text() == page(openapi), "adbeam docs build"


def test_every_path_and_field_is_on_the_page() -> None:
    openapi = document()
    text = page(openapi)
    assert all(f"{method.upper()} {path}" in text for path, methods in openapi["paths"].items() for method in methods)
    for schema in openapi["components"]["schemas"].values():
        assert all(f"| `{field}`" in text for field in schema.get("properties", {}))
