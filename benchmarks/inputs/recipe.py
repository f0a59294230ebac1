"""How one generated log is written, drawn from a seed: formats, dialects, types, folders, drift between files."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from benchmarks.inputs import spelling
from benchmarks.inputs.base import EVENT_FEATURES, ITEM_FEATURES

EVENT_COLUMNS = (
    "event_id", "request_id", "user_id", "timestamp", "item_id", "item_kind", "scene", "action", "bid", "ecpm", "price",
    "position", *EVENT_FEATURES,
)  # fmt: skip
ITEM_COLUMNS = (
    "item_id", "kind", "title", "category", "brand", "advertiser", "price", "ecpm", "status", *ITEM_FEATURES,
)  # fmt: skip
FORMATS = ("csv", "csv", "csv", "jsonl", "jsonl", "array", "parquet", "parquet")
DRIFTS = ("missing", "null type", "ids", "dictionary", "order", "numbers")
DROPPED = ("price", "position", "scene", "request_id", "bid", "device")
"""Columns that some files may lack."""
_WORDS: dict[str, dict[str, dict[str, Any]]] = {
    "action": {
        "words": {"impression": "shown", "click": "Tap", "deep": "stay, long", "conversion": "order"},
        "numbers": {"impression": 0, "click": 1, "deep": 2, "conversion": 3, "gone astray": 99},
    },
    "item_kind": {"words": {"ad": "PAID", "organic": "none"}, "truth": {"ad": True, "organic": False}},
    "kind": {"words": {"ad": "PAID", "organic": "null"}, "truth": {"ad": True, "organic": False}},
    "status": {"words": {"active": "on", "paused": "off"}, "numbers": {"active": 1, "paused": 0}},
}
"""Other words for ours; a word that is not named stays."""


@dataclass(frozen=True)
class Writing:
    """How the files of one table are written. `names` and `words` go from ours to theirs."""

    format: str
    packing: str
    encoding: str
    letters: str
    delimiter: str
    quoting: str
    line_end: str
    decimal: str
    nulls: str
    names: dict[str, str]
    words: dict[str, dict[str, Any]]
    spellings: dict[str, str]
    layout: str
    headless: bool = False
    extras: bool = False
    drift: str | None = None
    dropped: tuple[str, ...] = ()
    blank_lines: bool = False
    """Between the rows, and none at the end of the last."""
    ending: str = "its own"
    """Of packed files: its own, or that of plain ones."""
    constants: dict[str, Any] = field(default_factory=dict)
    """Given by the user for what is missing."""

    @property
    def codec(self) -> str:
        """The name under which a user knows the encoding."""
        return self.encoding.removesuffix(" marked")


@dataclass(frozen=True)
class Recipe:
    """All of one generated log; the same for the same seed."""

    seed: int
    number_ids: bool
    long_ids: bool
    letters: str
    whole_seconds: bool
    lines: bool
    events: Writing
    items: Writing
    damage: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def draw_recipe(seed: int, damages: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a seed; every third log is damaged where there are `damages`."""
    draw = random.Random(f"recipe {seed}")
    number_ids, long_ids = draw.random() < 0.5, draw.random() < 0.3
    ids = "text" if not number_ids else "long" if long_ids else "number"
    letters = draw.choice(["ascii", "latin", "unicode"])
    whole_seconds, lines = draw.random() < 0.4, draw.random() < 0.5
    events = _writing(draw, _event_columns(draw), ids, letters, whole_seconds)
    items = _writing(draw, ITEM_COLUMNS, ids, letters, whole_seconds)
    damage = draw.choice(sorted(damages)) if damages and draw.random() < 0.4 else None
    return Recipe(seed, number_ids, long_ids, letters, whole_seconds, lines, events, items, damage)


def _event_columns(draw: random.Random) -> tuple[str, ...]:
    """All, or all but the event_id, which is then a hash of the row."""
    return EVENT_COLUMNS if draw.random() < 0.7 else tuple(name for name in EVENT_COLUMNS if name != "event_id")


def _writing(draw: random.Random, columns: tuple[str, ...], ids: str, letters: str, whole_seconds: bool) -> Writing:
    kind = draw.choice(FORMATS)
    is_log = "timestamp" in columns
    layouts = (
        ["file", "days", "hive", "mixed", "formats"]
        + (["scenes"] if is_log and letters != "unicode" else [])
        + (["actions"] if is_log else [])
    )
    layout = draw.choice(layouts)
    kind = "csv" if layout == "formats" else kind
    words = _words(draw, columns)
    spellings = _spellings(draw, columns, kind, ids, whole_seconds, words)
    drift = draw.choice([None, *DRIFTS]) if layout in ("days", "hive", "mixed", "formats") and is_log else None
    if drift in ("null type", "dictionary") and kind != "parquet":
        drift = "missing"
    headless = kind == "csv" and layout == "file" and draw.random() < 0.15
    return Writing(
        format=kind,
        packing=draw.choice(["", "", "gz", "zst", "gz members"]) if kind != "parquet" else draw.choice(
            ["none", "snappy", "zstd"]
        ),
        encoding=_encoding(draw, letters),
        letters=letters,
        delimiter=draw.choice([",", ",", ";", "\t", "|", ":", "~"]),
        quoting=draw.choice(["minimal", "all", "numbers bare"]),
        line_end=draw.choice(["\n", "\n", "\r\n"] + (["\r"] if kind == "csv" else [])),
        decimal=draw.choice([".", "auto .", ",", "auto ,"]),
        nulls=draw.choice(["", "", "NULL", "NaN", "\\N", "n/a", "-"]),
        names=_names(draw, columns, headless),
        words=words,
        spellings=spellings,
        layout=layout,
        headless=headless,
        extras=draw.random() < 0.4,
        drift=drift,
        dropped=tuple(draw.sample(DROPPED, 2)) if drift in ("missing", "null type") else (),
        blank_lines=draw.random() < 0.2,
        ending=draw.choice(["its own", "its own", "plain"]),
        constants={"scene": "front", "position": 3} if is_log and draw.random() < 0.2 else {},
    )  # fmt: skip


def _encoding(draw: random.Random, letters: str) -> str:
    wide = ["utf-8", "utf-8", "utf-8 marked", "utf-16 marked", "utf-16-le", "utf-16-be"]
    return draw.choice(wide + (["latin-1", "cp1252"] if letters != "unicode" else []))


def _names(draw: random.Random, columns: tuple[str, ...], headless: bool) -> dict[str, str]:
    """Their name of each column: ours, in another case, with signs in it, inside objects, or swapped. Features keep
    theirs."""
    features = {name: name for name in columns if name in EVENT_FEATURES or name in ITEM_FEATURES}
    return _renamed(draw, tuple(name for name in columns if name not in features), headless) | features


def _renamed(draw: random.Random, columns: tuple[str, ...], headless: bool) -> dict[str, str]:
    style = draw.choice(["ours", "upper", "title", "signs", "dotted", "swapped"])
    if style == "upper":
        return {name: name.upper() for name in columns}
    if style == "title":
        return {name: name.title().replace("_", "") for name in columns}
    if style == "signs" and not headless:
        return {name: f'the {name}; "so", they | say' for name in columns}
    if style == "dotted":
        return {name: f"{name.split('_')[0]}.{name}" for name in columns}
    names = {name: name for name in columns}
    return names | {"price": "ecpm", "ecpm": "price"} if style == "swapped" else names


def _words(draw: random.Random, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    chosen = {name: draw.choice([None, *forms]) for name, forms in _WORDS.items() if name in columns}
    return {name: _WORDS[name][form] for name, form in chosen.items() if form is not None}


def _spellings(
    draw: random.Random,
    columns: tuple[str, ...],
    kind: str,
    ids: str,
    whole_seconds: bool,
    words: dict[str, dict[str, Any]],
) -> dict[str, str]:
    return {name: _spelling(draw, name, kind, ids, whole_seconds, words.get(name, {})) for name in columns}


def _spelling(draw: random.Random, name: str, kind: str, ids: str, whole_seconds: bool, words: dict[str, Any]) -> str:
    typed = kind == "parquet"
    if name == "timestamp":
        forms = [*spelling.COUNTED, *spelling.WRITTEN, *(spelling.ARROW_TIMES if typed else ())]
        seconds = list(spelling.SECONDS_ONLY) if whole_seconds else []
        return draw.choice([form for form in forms if form != "s"] + seconds)
    texts = ["text", *(("large text", "bytes", "dictionary", "view") if typed else ())]
    if name in spelling.IDS:
        if ids == "text" and name in ("user_id", "item_id"):
            return draw.choice(texts)
        exact = ["unsigned" if typed else "integer", *(["whole decimal"] if typed else [])]
        is_long = ids == "long" and name in ("user_id", "item_id")
        return draw.choice(texts + exact + ([] if is_long or kind == "csv" else ["float"]))
    if name in spelling.MONEY:
        return draw.choice(["float", "number text", *(["decimal"] if typed else [])])
    if name in spelling.WHOLE:
        return draw.choice(["integer", "number text", "float", *(["small"] if typed else [])])
    if name == "mobile":
        return draw.choice(["boolean", "text", "small"])
    if words and not isinstance(next(iter(words.values())), str):
        return "boolean" if isinstance(next(iter(words.values())), bool) else "integer"
    return draw.choice(texts)
