"""Options that many verbs share, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adbeam.errors import UserError

if TYPE_CHECKING:
    from adbeam.config import Config

ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML of the jobs, for example jobs/train.yaml")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override one key: --set training.max_steps=100 (repeatable)")
]
WorkDir = Annotated[Path, typer.Option(help="work_dir of the jobs")]
Port = Annotated[int, typer.Option(help="HTTP port on 127.0.0.1", min=1, max=65535)]
ServingYaml = Annotated[Path, typer.Option(help="Serve application YAML")]
Token = Annotated[str | None, typer.Option(envvar="ADBEAM_TOKEN", help="Bearer token, where auth is on")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def load(path: Path | None, overrides: list[str] | None) -> Config:
    """The configuration of the jobs with `--set` in it; raises UserError."""
    from adbeam.config import Config

    return Config.load(path, parse_overrides(overrides))


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """{"training.max_steps": 100} from ["training.max_steps=100"]; values are YAML."""
    import yaml

    parsed = {}
    for pair in pairs or []:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError("an override is key=value", field="--set", value=pair)
        parsed[key] = yaml.safe_load(value)
    return parsed


def read_json(text: str, option: str) -> Any:
    """The JSON that an option was given; raises UserError naming it."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"is no JSON: {error}", field=option, value=text) from None
