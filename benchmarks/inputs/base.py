"""The log that all generated ones are written from, as Python rows under the contract's names.

It has what clean logs have: rows sent twice, an action nobody knows, an item that is not in the catalogue, missing
values in every optional column, texts with quotes, signs and line ends, ids with leading zeros and outer blanks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
START_MS = 1_740_787_200_000
"""2025-03-01 00:00 UTC: no clock is set before the end of the log."""
DAY_MS = 86_400_000
DAYS = 5
VALIDATION_FROM, TEST_FROM = START_MS + 3 * DAY_MS, START_MS + 4 * DAY_MS
EVENT_FEATURES = {"device": "string", "age": "integer", "weight": "number", "mobile": "boolean"}
ITEM_FEATURES = {"colour": "string", "stars": "number"}
BAD_ACTION, BAD_ITEM = "gone astray", "999983"
_USERS, _ITEMS, _EVENTS, _TWICE = 9, 12, 60, 3
_LETTERS = {
    "ascii": ("o", 'O\'Neil & "Sons"', "a, b; c | d\te"),
    "latin": ("é", "Müller", "Größe; 5"),
    "unicode": ("é", "山田 \U0001f600", "e\u0301 und é, “so”"),
}
"""Letters by what encodings can hold; the last ones hold all signs that stand between cells."""


@dataclass(frozen=True)
class BaseLog:
    """Events and catalogue; `number_ids` are ids that also stand in number columns."""

    events: list[Row]
    items: list[Row]


def base_log(seed: int, *, number_ids: bool, long_ids: bool, letters: str, whole_seconds: bool, lines: bool) -> BaseLog:
    """The same log for the same arguments; `lines` puts line ends into texts, `long_ids` have up to 20 digits."""
    draw = random.Random(f"base {seed}")
    users = _ids(draw, _USERS, number_ids, long_ids, letters)
    ids = _ids(draw, _ITEMS, number_ids, long_ids, letters)
    texts = [*_LETTERS[letters], "plain", "two\nlines" if lines else "one line"]
    items = [_item(draw, item, texts) for item in ids]
    events = [_event(draw, number, users, items, texts, whole_seconds) for number in range(_EVENTS)]
    events[7]["action"], events[11]["item_id"] = BAD_ACTION, BAD_ITEM
    for place in sorted(draw.sample(range(20, _EVENTS), _TWICE), reverse=True):
        events.insert(place, dict(events[place]))
    return BaseLog(events, [*items, dict(items[3])])


def is_good(row: Row) -> bool:
    """Whether the event is one that is kept."""
    return row["action"] != BAD_ACTION and row["item_id"] != BAD_ITEM


def _ids(draw: random.Random, count: int, number_ids: bool, long_ids: bool, letters: str) -> list[str]:
    if number_ids and long_ids:
        start = 2**64 - 1 - count  # one apart: as floats they would all be one
        return [str(start + number) for number in range(count)]
    if number_ids:
        return [str(number) for number in draw.sample([*range(1, 4000), 2**31 + 7, 2**53 - 1], count)]
    odd = ["007", "7", "A1", "a1", f"J{_LETTERS[letters][0]}", " 7 ", "1e3", "17.0", 'x|y;z,"q"', "-5"]
    return draw.sample([*odd, *(f"id{number}" for number in range(count))], count)


def _maybe(draw: random.Random, value: Any, odds: float = 0.7) -> Any:
    return value if draw.random() < odds else None


def _money(draw: random.Random) -> float:
    return round(draw.choice([draw.uniform(0, 2), draw.uniform(1, 90), draw.randrange(1, 2000)]), 2)


def _item(draw: random.Random, item: str, texts: list[str]) -> Row:
    return {
        "item_id": item,
        "kind": draw.choice(["ad", "ad", "organic"]),
        "title": draw.choice(texts),
        "category": _maybe(draw, draw.choice(texts)),
        "brand": _maybe(draw, "North"),
        "advertiser": _maybe(draw, draw.choice(texts)),
        "price": _maybe(draw, _money(draw)),
        "ecpm": _maybe(draw, _money(draw)),
        "status": draw.choice(["active", "active", "paused"]),
        "colour": _maybe(draw, draw.choice(texts)),
        "stars": _maybe(draw, draw.choice([0.5, 3.0, 4.25])),
    }


def _event(
    draw: random.Random, number: int, users: list[str], items: list[Row], texts: list[str], whole_seconds: bool
) -> Row:
    moment = START_MS + number * (DAYS * DAY_MS // _EVENTS) + draw.randrange(1, 3_600_000)
    item = draw.choice(items)
    action = draw.choice(["impression", "impression", "click", "deep", "conversion"])
    return {
        "event_id": str(10_000 + number),
        "request_id": _maybe(draw, str(500 + number // 3)),
        "user_id": draw.choice(users),
        "timestamp": moment // 1000 * 1000 if whole_seconds else moment,
        "item_id": item["item_id"],
        "item_kind": _maybe(draw, item["kind"]),
        "scene": _maybe(draw, draw.choice(["home", "top bar", texts[0]])),
        "action": action,
        "bid": _maybe(draw, _money(draw)),
        "ecpm": _maybe(draw, _money(draw)),
        "price": _money(draw) if action == "conversion" else None,
        "position": _maybe(draw, draw.randrange(12)),
        "device": _maybe(draw, draw.choice(texts)),
        "age": _maybe(draw, draw.randrange(18, 90)),
        "weight": _maybe(draw, draw.choice([1.0, 2.5, 0.125])),
        "mobile": _maybe(draw, draw.random() < 0.5),
    }
