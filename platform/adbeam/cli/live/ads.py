"""`adbeam ads`: new ads, changed ads, ads that stop; through an endpoint, or straight into the update log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from adbeam.catalogue.updates import UpdateLog

ads_app = typer.Typer(
    help="Add, change and stop ads while they are served, without training.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Url = Annotated[str, typer.Option(help="Where the endpoint is")]
Token = Annotated[str | None, typer.Option(envvar="ADBEAM_ADMIN_TOKEN", help="Admin key of the endpoint")]
Log = Annotated[
    str | None, typer.Option(help="Update log to write without an endpoint: its SQLite file, or redis://HOST:PORT/DB")
]
Ids = Annotated[list[str], typer.Argument(help="Ids of the ads")]
Targeting = Annotated[
    str | None, typer.Option(help="Whom the ads are for, as JSON (docs/targeting.md); {} is everybody")
]
DEFAULT_URL = "http://127.0.0.1:8000"


@ads_app.command()
def add(
    item_id: Annotated[str | None, typer.Argument(help="Id of the ad; a known one is replaced")] = None,
    title: Annotated[str, typer.Option(help="What the ad says")] = "",
    category: Annotated[str | None, typer.Option()] = None,
    brand: Annotated[str | None, typer.Option()] = None,
    advertiser: Annotated[str | None, typer.Option()] = None,
    campaign: Annotated[str | None, typer.Option()] = None,
    price: Annotated[float | None, typer.Option(help="Typical value of a conversion")] = None,
    ecpm: Annotated[float | None, typer.Option(help="Live eCPM: orders ads that share a semantic ID")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="name=value of a declared feature (repeatable)")] = None,
    targeting: Targeting = None,
    file: Annotated[Path | None, typer.Option(help="JSON Lines, one ad a line, in place of the options")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    log: Log = None,
    bundle: Annotated[Path | None, typer.Option(help="With --log: the bundle whose tokenizer encodes the ad")] = None,
) -> None:
    """Encode ads with the codebooks in force and serve them from the next request on."""
    from adbeam.errors import UserError

    if (file is None) == (item_id is None):
        raise UserError("give the id of one ad, or --file with many", remedy="see `adbeam ads add --help`")
    given: dict[str, Any] = {"item_id": item_id, "title": title, "category": category, "brand": brand,
                             "advertiser": advertiser, "price": price, "ecpm": ecpm,
                             "features": _pairs(feature or []), **_given(campaign=campaign),
                             **_rules(targeting)}  # fmt: skip
    items = [given] if file is None else _read_lines(file)
    _change([{"operation": "insert", "item_id": item.get("item_id"), "item": item} for item in items], url, token,
            log, bundle)  # fmt: skip


@ads_app.command()
def update(
    item_ids: Ids,
    ecpm: Annotated[float | None, typer.Option(help="The new live eCPM; an ad of 0 is not bid")] = None,
    targeting: Targeting = None,
    advertiser: Annotated[str | None, typer.Option(help="Whose they are from now on; empty: of none")] = None,
    campaign: Annotated[str | None, typer.Option(help="Of which campaign from now on; empty: of none")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    log: Log = None,
) -> None:
    """Set the live eCPM of ads, whom they are for, whose they are, or several of these."""
    from adbeam.errors import UserError

    given = {**_given(ecpm=ecpm, advertiser=advertiser, campaign=campaign), **_rules(targeting)}
    if not given:
        options = "--ecpm, --targeting, --advertiser, --campaign"
        raise UserError("say what is new", field=options, remedy="give one of them, or several")
    _change([{"operation": "update", "item_id": item_id, **given} for item_id in item_ids], url, token, log)


@ads_app.command()
def pause(item_ids: Ids, url: Url = DEFAULT_URL, token: Token = None, log: Log = None) -> None:
    """Serve ads no longer, until they are resumed."""
    _change([{"operation": "pause", "item_id": item_id} for item_id in item_ids], url, token, log)


@ads_app.command()
def resume(item_ids: Ids, url: Url = DEFAULT_URL, token: Token = None, log: Log = None) -> None:
    """Serve paused ads again."""
    _change([{"operation": "resume", "item_id": item_id} for item_id in item_ids], url, token, log)


@ads_app.command()
def remove(item_ids: Ids, url: Url = DEFAULT_URL, token: Token = None, log: Log = None) -> None:
    """Forget ads; histories still know them."""
    _change([{"operation": "remove", "item_id": item_id} for item_id in item_ids], url, token, log)


@ads_app.command()
def trim(
    log: Annotated[str, typer.Option(help="The update log: its SQLite file, or redis://HOST:PORT/DB")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder, or a folder with a CURRENT pointer")],
) -> None:
    """Drop the updates that a bundle already holds. Bundles made before it can no longer be served with this log."""
    from adbeam.bundle import load_bundle

    watermark = load_bundle(bundle).settings.updates_watermark
    _open(log).drop(watermark)
    typer.echo(f"dropped the updates up to {watermark}")


def _change(
    changes: Sequence[dict[str, Any]], url: str, token: str | None, log: str | None, bundle: Path | None = None
) -> None:
    last, ads = _into_log(changes, log, bundle) if log is not None else _over_http(changes, url, token)
    for ad in ads:
        sid = f"\t{'-'.join(map(str, ad['sid']))}" if ad["sid"] else ""
        typer.echo(f"{ad['operation']}\t{ad['item_id']}{sid}")
    typer.echo(f"number {last} of the update log")


def _over_http(changes: Sequence[dict[str, Any]], url: str, token: str | None) -> tuple[int, list[dict[str, Any]]]:
    from adbeam.errors import UserError
    from adbeam.serving.client import call

    status, answer = call(url, "POST", "/v1/admin/ads", {"changes": list(changes)}, token=token, timeout_seconds=60)
    if status != 200:
        detail = answer.get("detail") if isinstance(answer, dict) else answer
        raise UserError(f"the endpoint answered HTTP {status}: {detail}")
    return answer["last"], answer["ads"]


def _into_log(changes: Sequence[dict[str, Any]], place: str, bundle: Path | None) -> tuple[int, list[dict[str, Any]]]:
    from pydantic import ValidationError

    from adbeam.bundle import load_bundle
    from adbeam.catalogue.follower import insertion
    from adbeam.catalogue.updates import AdUpdate
    from adbeam.errors import UserError
    from adbeam.tokens.encoder import LazyTokenizer

    try:
        updates = [AdUpdate.model_validate(change) for change in changes]
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "ad"
        raise UserError(first["msg"], field=field, value=first.get("input")) from None
    if any(update.item for update in updates):
        if bundle is None:
            raise UserError("a new ad needs a tokenizer", field="--bundle", remedy="name the bundle that is served")
        loaded = load_bundle(bundle)
        encoder = LazyTokenizer(loaded.settings.tokens, loaded.codebooks, loaded.embedder_dir)
        updates = [insertion(encoder, update.item) if update.item else update for update in updates]
    return _open(place).append(updates), [
        update.model_dump(include={"operation", "item_id", "sid"}) for update in updates
    ]


def _open(place: str) -> UpdateLog:
    from adbeam.catalogue.config import UpdatesConfig
    from adbeam.catalogue.open_updates import open_log

    config = {"redis_url": place} if "://" in place else {"path": place}
    log = open_log(UpdatesConfig.parse(config, source="--log"))
    assert log is not None
    return log


def _read_lines(path: Path) -> list[dict[str, Any]]:
    from adbeam.errors import UserError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", field="--file", value=str(path)) from None
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise UserError(f"line {number} is no JSON: {error}", field="--file", value=str(path)) from None
        if line.strip() and not isinstance(item, dict):
            raise UserError(f"line {number} is no JSON object", field="--file", value=str(path))
        items += [item] if item is not None else []
    return items


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _rules(text: str | None) -> dict[str, Any]:
    """What a change says of targeting; raises UserError for rules that are wrong in themselves."""
    from adbeam.records import plain_rules

    return {} if text is None else {"targeting": plain_rules(text)}


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    from adbeam.errors import UserError

    pairs = dict(text.partition("=")[::2] for text in texts)
    if any("=" not in text for text in texts):
        raise UserError("a feature is name=value", field="--feature", value=list(texts))
    return pairs
