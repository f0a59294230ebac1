"""Every generated page of docs/: the configuration, the API and its OpenAPI document."""

from __future__ import annotations

import json

from adbeam.reference import api, configuration


def doc_files() -> dict[str, str]:
    """Files of the folder docs/: name -> text."""
    openapi = api.document()
    return {
        "configuration.md": configuration.reference(),
        "api.md": api.page(openapi),
        "openapi.json": json.dumps(openapi, indent=2) + "\n",
    }
