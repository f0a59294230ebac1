"""Bid requests as exchanges send them: a field that cannot be read is as if absent, and counted.

A request that follows the specification is read by its model alone. Only what the model refuses is read again here,
field by field: numbers as text, fractions, nulls, one value in place of a list. What blocks ads is never lost as a
whole: of `bcat`, `badv` and `bapp` only the entries that cannot be read are dropped, and where the list is longer than
may be kept nothing is bid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from adbeam.identity.numbers import id_of_number
from adbeam.identity.people import USER_ID_READ
from adbeam.recorder import Recorder
from adbeam.serving.config import LimitsConfig
from adbeam.serving.http.openrtb import BidRequest
from adbeam.serving.http.problems import Problem, validation_problem
from adbeam.serving.openrtb.impression import CATEGORY_LENGTH, CURRENCY_LENGTH, FLOOR_MAX, NAME_LENGTH, TAG_LENGTH
from adbeam.serving.openrtb.values import finite

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Reader = Callable[[Any], Any]


class InvalidBidRequest(Exception):
    """A request with an id and nothing that could be bid on: the answer is `nbr` 2."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


def read_bid_request(body: bytes, model: type[BidRequest], limits: LimitsConfig, metrics: Recorder) -> BidRequest:
    """The request; raises Problem 400 for what is no JSON object with an `id`, InvalidBidRequest without impressions.

    Fields that could not be read are counted by name in `adbeam_bid_fields_unread`.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        refused = error
    try:
        raw = from_json(body.removeprefix(BYTE_ORDER_MARK))
    except ValueError:
        raise validation_problem(refused) from None
    if not isinstance(raw, dict):
        raise Problem(400, "the body is no bid request: a JSON object is wanted")
    return _read_again(raw, model, limits, metrics)


def _read_again(raw: dict[str, Any], model: type[BidRequest], limits: LimitsConfig, metrics: Recorder) -> BidRequest:
    unread: list[str] = []
    lists: dict[str, Reader] = {
        "bcat": _texts("bcat", CATEGORY_LENGTH, unread),
        "badv": _texts("badv", NAME_LENGTH, unread),
        "bapp": _texts("bapp", NAME_LENGTH, unread),
    }
    fields = _fields(
        raw, {**REQUEST, **lists, "cur": _texts("cur", CURRENCY_LENGTH, unread, CURRENCY_LENGTH)}, "", unread
    )
    if isinstance(raw.get("user"), dict):
        others = {name: value for name, value in raw["user"].items() if name not in USER}
        fields["user"] = {**others, **_fields(raw["user"], USER, "user.", unread)}
    elif raw.get("user") is not None:
        unread.append("user")
    fields["imp"] = _impressions(raw.get("imp"), limits.impressions_max, unread)
    is_blocked_whole = all(len(fields.get(name, ())) <= limits.filter_max for name in lists)
    for name in unread:
        metrics.add("adbeam_bid_fields_unread", field=name)
    if "id" not in fields:
        raise Problem(400, "id: a bid request needs an id of 1 to 128 characters")
    if not fields["imp"] or not is_blocked_whole:
        raise InvalidBidRequest(fields["id"])
    return model.model_validate(fields)


def _impressions(raw: Any, most: int, unread: list[str]) -> list[dict[str, Any]]:
    if not isinstance(raw, list):
        unread.append("imp")
        return []
    found = []
    for each in raw[:most]:
        fields = _fields(each, IMPRESSION, "imp.", unread) if isinstance(each, dict) else {}
        if "id" in fields:
            found.append(fields)
        else:
            unread.append("imp")
    if len(raw) > most:
        unread.append("imp")
    return found


def _fields(raw: Mapping[str, Any], readers: Mapping[str, Reader], place: str, unread: list[str]) -> dict[str, Any]:
    """What can be read of `raw`; the names of the rest go to `unread`. A null is an absent field."""
    found = {}
    for name, read in readers.items():
        if (value := raw.get(name)) is None:
            continue
        try:
            found[name] = read(value)
        except (TypeError, ValueError, OverflowError):
            unread.append(place + name)
    return found


def _text(most: int, least: int = 1) -> Reader:
    def read(value: Any) -> str:
        value = id_of_number(value) or value
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise ValueError(value)
        return value

    return read


def _texts(name: str, most: int, unread: list[str], least: int = 1) -> Reader:
    """A list of texts without the entries that cannot be read; one text in its place is a list of one."""

    def read(value: Any) -> list[str]:
        if not isinstance(value, list):
            return [_text(most, least)(value)]
        kept = []
        for entry in value:
            if isinstance(entry, str) and least <= len(entry) <= most:
                kept.append(entry)
            else:
                unread.append(name)
        return kept

    return read


def _floor(value: Any) -> float:
    number = finite(value)
    if not 0 <= number <= FLOOR_MAX:
        raise ValueError(value)
    return number


def _milliseconds(value: Any) -> int | None:
    """Whole milliseconds, rounded down; 0 is none."""
    number = math.floor(finite(value))
    if number < 0:
        raise ValueError(value)
    return number or None


REQUEST: dict[str, Reader] = {
    "id": _text(NAME_LENGTH),
    "tmax": _milliseconds,
    **dict.fromkeys(("device", "regs", "site", "app", "cattax", "wseat", "bseat", "source"), lambda value: value),
    "test": lambda value: 1 if value is True else int(finite(value)),
}
USER: dict[str, Reader] = {"id": _text(USER_ID_READ, least=0), "buyeruid": _text(USER_ID_READ, least=0)}
IMPRESSION: dict[str, Reader] = {
    "id": _text(NAME_LENGTH),
    "tagid": _text(TAG_LENGTH, least=0),
    "bidfloor": _floor,
    "bidfloorcur": _text(CURRENCY_LENGTH, least=CURRENCY_LENGTH),
    **dict.fromkeys(("banner", "video", "audio", "native", "pmp"), lambda value: value),
}
