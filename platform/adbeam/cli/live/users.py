"""`adbeam users`: what an endpoint keeps of users."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adbeam.cli.options import Token, read_json

users_app = typer.Typer(
    help="Keep what is known of users at an endpoint, or have them forgotten.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

UserId = Annotated[str, typer.Argument(help="The user id that requests and events carry")]
Url = Annotated[str, typer.Option(help="Where the endpoint is")]
DEFAULT_URL = "http://127.0.0.1:8000"


@users_app.command("set")
def set_profile(
    user_id: UserId,
    profile: Annotated[
        str, typer.Option(help='Features of `source: user`, as JSON: {"age": 31}; {} takes out what is kept')
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Keep a profile in place of the one that is kept."""
    user = {"user_id": user_id, "profile": read_json(profile, "--profile")}
    _answered(url, "POST", "/v1/users", {"users": [user]}, token)


@users_app.command()
def delete(user_id: UserId, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Forget a user: the profile and the history in the store. Logs keep the user under a keyed hash."""
    from urllib.parse import quote

    _answered(url, "DELETE", f"/v1/users/{quote(user_id, safe='')}", None, token)


def _answered(url: str, method: str, path: str, body: dict[str, Any] | None, token: str | None) -> None:
    """Print what became of it, a word and its value a line; raises UserError when it was refused."""
    from adbeam.errors import UserError
    from adbeam.serving.client import call

    status, answer = call(url, method, path, body, token=token)
    if status != 200 or not isinstance(answer, dict):
        detail = answer.get("detail") if isinstance(answer, dict) else answer
        raise UserError(f"the endpoint answered HTTP {status}: {detail}")
    for name, value in answer.items():
        typer.echo(f"{name}\t{value if not isinstance(value, bool) else 'forgotten' if value else 'there was none'}")
