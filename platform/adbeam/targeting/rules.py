"""The rules of an ad: read from JSON with clear errors, written in one form, held against one request.

    {"country": {"in": ["de", "at"]}, "age": {"from": 18, "to": 34}, "store": {"not_in": ["7"], "missing": true},
     "start": "2026-05-01", "end": "2026-06-01", "hours": ["mon-fri 7-22"], "timezone": "Europe/Berlin",
     "scenes": ["home"]}

All must hold. A feature that the request lacks is no match unless its condition says `"missing": true`. Of a list one
value of `in` is enough, and none of `not_in` may be there. Bounds belong to their range; `start` is the first moment of
an ad, `end` the first after it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from adbeam.errors import UserError, nearest_name
from adbeam.targeting.day_parts import MOST_PARTS, hours_of, is_in, zone
from adbeam.targeting.features import MOST_NUMBER, OF_RULES, Features, category
from adbeam.targeting.told import Told, words

MOST_VALUES = 1000
"""Values of one list of a rule."""
TEXT_BYTES = 1 << 18
"""Rules of one ad, as JSON."""
LAST_MS = 1 << 53
WORD_KEYS, RANGE_KEYS = ("in", "not_in", "missing"), ("from", "to", "missing")
TARGETING = "targeting"
"""Name of the rules in catalogues, updates and on the command line; first part of the fields that errors name."""


@dataclass(frozen=True, slots=True)
class WordCondition:
    """What a category or list must be."""

    any_of: frozenset[str] | None
    none_of: frozenset[str]
    missing: bool

    def holds(self, value: Any) -> bool:
        """Whether a feature of this value is a match."""
        told = words(value)
        if not told:
            return self.missing
        return (self.any_of is None or not self.any_of.isdisjoint(told)) and self.none_of.isdisjoint(told)


@dataclass(frozen=True, slots=True)
class RangeCondition:
    """What a number must be."""

    low: float
    high: float
    missing: bool

    def holds(self, value: Any) -> bool:
        """Whether a feature of this value is a match."""
        return self.missing if value is None else self.low <= value <= self.high


def names_by_in(condition: WordCondition | RangeCondition | None) -> bool:
    """Whether a condition names whom an ad is for, and no one of whom that is not known: what a partition asks for."""
    return isinstance(condition, WordCondition) and condition.any_of is not None and not condition.missing


@dataclass(frozen=True)
class Rules:
    """Whom one ad is for. `text` is their one form as JSON; None where the ad is for everybody."""

    conditions: Mapping[str, WordCondition | RangeCondition] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None
    hours: tuple[str, ...] = ()
    timezone: str = "UTC"
    scenes: tuple[str, ...] = ()
    text: str | None = None

    def hold(self, told: Told) -> bool:
        """Whether a request may be shown the ad."""
        if self.start_ms is not None and told.now_ms < self.start_ms:
            return False
        if self.end_ms is not None and told.now_ms >= self.end_ms:
            return False
        if (self.scenes and told.scene not in self.scenes) or not self._in_hours(told.now_ms):
            return False
        given = told.features
        return all(
            name not in told.unread and condition.holds(given.get(name)) for name, condition in self.conditions.items()
        )

    def _in_hours(self, now_ms: int) -> bool:
        return not self.hours or is_in(self.hours, now_ms, self.timezone)


def read_rules(given: str | Mapping[str, Any], features: Features | None) -> Rules:
    """Rules from JSON, as text or read already; with `features` None names and kinds are taken as they are.

    Raises UserError naming the field, the value and the remedy.
    """
    raw = _parsed(given) if isinstance(given, str) else given
    if not isinstance(raw, Mapping):
        raise UserError('is no JSON object such as {"country": {"in": ["de"]}}', field=TARGETING, value=raw)
    conditions = {name: _condition(name, raw[name], features) for name in sorted(map(str, raw)) if name not in OF_RULES}
    start, end = (_moment(raw[name], name) if name in raw else None for name in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise _wrong("end", raw["end"], f"is not after start, {raw['start']!r}: swap them")
    hours = _texts(raw["hours"], "hours", _checked(hours_of), MOST_PARTS) if "hours" in raw else ()
    timezone = str(_checked(zone)(raw["timezone"], "timezone")) if "timezone" in raw else "UTC"
    if "timezone" in raw and not hours:
        raise _wrong("timezone", timezone, "is for hours, and there are none: leave it out, or give hours")
    scenes = _texts(raw["scenes"], "scenes", _word) if "scenes" in raw else ()
    plain: dict[str, Any] = {name: _plain(condition) for name, condition in conditions.items()}
    others: dict[str, Any] = {"start": start, "end": end, "hours": hours, "scenes": scenes}
    others["timezone"] = timezone if hours else None
    plain |= {name: value for name, value in others.items() if value not in (None, ())}
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":")) if plain else None
    if text is not None and len(text.encode()) > TEXT_BYTES:
        raise UserError(f"has more than {TEXT_BYTES:,} bytes", field=TARGETING, remedy="target fewer values")
    return Rules(conditions, start, end, hours, timezone, scenes, text)


@lru_cache(maxsize=1 << 16)
def stored_rules(text: str) -> Rules:
    """The rules of a text that `read_rules` wrote."""
    return read_rules(text, None)


def _parsed(text: str) -> Any:
    if len(text) > TEXT_BYTES:
        raise UserError(f"has more than {TEXT_BYTES:,} bytes", field=TARGETING, remedy="target fewer values")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"is no JSON: {error}", field=TARGETING, value=text) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise UserError(f"the key {twice!r} stands twice", field=TARGETING, remedy="keep one")
    return found


def _condition(name: str, raw: Any, features: Features | None) -> WordCondition | RangeCondition:
    if features is not None and name not in features:
        near = nearest_name(name, [*features, *OF_RULES])
        raise _wrong(name, raw, f"is no declared feature: did you mean {near!r}, or declare it under `features`")
    if features is not None and features[name].source == "item":
        raise _wrong(name, raw, "is a feature of items; rules ask for what requests and users tell")
    if not isinstance(raw, Mapping):
        raise _wrong(name, raw, 'a condition is an object: {"in": [...]}, {"not_in": [...]} or {"from": 18, "to": 34}')
    is_range = ("from" in raw or "to" in raw) if features is None else features[name].kind == "number"
    keys = RANGE_KEYS if is_range else WORD_KEYS
    for key in raw:
        if key not in keys:
            kind = "" if features is None else f" of the {features[name].kind} {name}"
            raise _wrong(f"{name}.{key}", raw[key], f"a condition{kind} has {', '.join(keys)}")
    if features is not None and features[name].partition and ("in" not in raw or raw.get("missing")):
        raise _wrong(name, raw, 'is a partition: say by "in" whom the ad is for; "missing" would open it to all')
    if not set(raw) - {"missing"}:
        raise _wrong(name, raw, f"says nothing: give {keys[0]} or {keys[1]}")
    missing = raw.get("missing", False)
    if not isinstance(missing, bool):
        raise _wrong(f"{name}.missing", missing, "is true or false")
    return _range(name, raw, missing) if is_range else _words(name, raw, missing)


def _words(name: str, raw: Mapping[str, Any], missing: bool) -> WordCondition:
    any_of, none_of = (
        frozenset(_texts(raw[key], f"{name}.{key}", _word)) if key in raw else None for key in ("in", "not_in")
    )
    if any_of is not None and none_of is not None and any_of <= none_of:
        raise _wrong(name, raw, "not_in takes out every value of in, so that nothing is left")
    return WordCondition(any_of, none_of or frozenset(), missing)


def _range(name: str, raw: Mapping[str, Any], missing: bool) -> RangeCondition:
    low, high = (
        _number(raw[key], f"{name}.{key}") if key in raw else bound
        for key, bound in (("from", -math.inf), ("to", math.inf))
    )
    if low > high:
        raise _wrong(name, raw, "the range is upside down: from is above to")
    return RangeCondition(low, high, missing)


def _plain(condition: WordCondition | RangeCondition) -> dict[str, Any]:
    missing = {"missing": True} if condition.missing else {}
    if isinstance(condition, RangeCondition):
        bounds = {"from": condition.low, "to": condition.high}
        return {key: bound for key, bound in bounds.items() if math.isfinite(bound)} | missing
    lists = {"in": condition.any_of, "not_in": condition.none_of}
    return {key: sorted(values) for key, values in lists.items() if values} | missing


def _texts(raw: Any, place: str, read: Callable[[Any, str], str], most: int = MOST_VALUES) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple):
        raise _wrong(place, raw, 'is a list: ["a", "b"]')
    if not raw:
        raise _wrong(place, raw, "is empty, so that nothing could match: leave it out, or name values")
    if len(raw) > most:
        raise _wrong(place, len(raw), f"holds more than {most:,} values: split the ad, or target something broader")
    return tuple(sorted({read(value, place) for value in raw}))


def _word(value: Any, place: str) -> str:
    try:
        return category(value)
    except ValueError as error:
        raise _wrong(place, value, str(error)) from None


def _checked(check: Callable[[str], object]) -> Callable[[Any, str], str]:
    def read(value: Any, place: str) -> str:
        try:
            check(_word(value, place))
        except UserError:
            raise
        except ValueError as error:
            raise _wrong(place, value, str(error)) from None
        return str(value)

    return read


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_NUMBER:
        raise _wrong(place, value, f"is a number between {-MOST_NUMBER:g} and {MOST_NUMBER:g}")
    return float(value)


def _moment(value: Any, place: str) -> int:
    """Milliseconds since 1970: a whole number of them, or ISO 8601 (UTC unless it names a zone)."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            value = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        if isinstance(value, bool) or value != int(value) or not 0 <= value <= LAST_MS:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise _wrong(place, value, "is a moment: 2026-05-01T08:00:00+02:00, or milliseconds since 1970") from None
    return int(value)


def _wrong(place: str, value: Any, what: str) -> UserError:
    """What is wrong with one part of the rules, and what to do about it."""
    return UserError(what, field=f"{TARGETING}.{place}", value=value)
