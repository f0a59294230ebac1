"""Bid requests as nobody should send them, and what the answer to each must be.

A mutation is made of a case whose right answer is known, by changing one or a few of its fields:

* `sloppy`: optional fields hold values that cannot be read: the answer is that to the same request without them;
* `forbidden`: the same on a request that nothing of ours may be bid on: still nothing is bid;
* `private`: a signal forbids the user's data: the answer is that to the same request without a user;
* `bytes`: the text is cut, doubled or flipped: whatever it is, it is no failure.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.requests.signals import SIGNALS, with_signal
from benchmarks.rig.torn import torn

Kind = Literal["sloppy", "forbidden", "private", "bytes"]
Path = tuple[str | int, ...]
NUMBER: tuple[Any, ...] = ("x", "", [], {}, [1], "nan", True, -5, "1e999", [[[]]], None)
TEXT: tuple[Any, ...] = ([], {}, True, 1.5, ["a"], {"a": 1}, None)
ITEMS: tuple[Any, ...] = ({}, 5.5, True, {"a": ["b"]}, None, [])
PART: tuple[Any, ...] = ("x", 5, [], True, 1.5, [[1]], None)
ANYTHING: tuple[Any, ...] = ("x", 5, [], True, {}, {"ext": {"a": [1] * 50}}, None, 10**40, "\u0000", "9" * 400)
OF_REQUEST: dict[str, tuple[Any, ...]] = {
    "tmax": ("x", "", [], {}, True, "nan", None, 0), "cur": ({}, True, None, [], [""], [7]),
    "bcat": ITEMS, "badv": ITEMS, "bapp": ITEMS,
    "test": ("x", [], {}, None, 0, 2), "user": PART, "at": ANYTHING, "site": ANYTHING, "app": ANYTHING, "ext": ANYTHING,
    "source": ANYTHING, "allimps": ANYTHING, "wlang": ANYTHING, "acat": ANYTHING, "unheard_of": ANYTHING,
}  # fmt: skip
OF_IMPRESSION: dict[str, tuple[Any, ...]] = {
    "tagid": TEXT, "bidfloor": NUMBER, "bidfloorcur": ("", "US", "DOLLAR", 5, [], {}, None), "secure": ANYTHING,
    "instl": ANYTHING, "exp": ANYTHING, "ext": ANYTHING, "metric": ANYTHING, "displaymanager": ANYTHING,
}  # fmt: skip
OF_USER: dict[str, tuple[Any, ...]] = {
    "id": TEXT,
    "buyeruid": TEXT,
    "eids": ("x", 5, True, {}, [7], [{"source": 1}], None),
    "yob": ANYTHING,
    "data": ANYTHING,
}
OF_FORMAT: dict[str, tuple[Any, ...]] = {
    "w": NUMBER, "h": NUMBER, "battr": ({}, "x", [[]], ["x"], None, []), "pos": ANYTHING, "mimes": ({}, [], True, None),
    "api": ANYTHING, "minduration": NUMBER, "maxduration": NUMBER, "protocols": ANYTHING, "ext": ANYTHING,
}  # fmt: skip
FORMATS = ("banner", "video", "audio", "native")


@dataclass(frozen=True)
class Mutation:
    """A body, and the request whose answer is the right one; None where any answer that is no failure is."""

    kind: Kind
    settings: str
    body: bytes
    reference: dict[str, Any] | None = None


def mutations(cases: Sequence[dict[str, Any]], number: int, seed: int) -> Iterator[Mutation]:
    """`number` of them."""
    rng = random.Random(seed)
    answered = [case for case in cases if "request" in case and case["right"].get("imps")]
    forbidden = [case for case in cases if "request" in case and case["right"]["status"] == 204]
    for _ in range(number):
        kind = rng.choices(("sloppy", "forbidden", "private", "bytes"), (0.6, 0.2, 0.1, 0.1))[0]
        case = rng.choice(forbidden if kind == "forbidden" else answered)
        request = copy.deepcopy(case["request"])
        request.pop("tmax", None)  # a busy machine would answer late with other ads
        match kind:
            case "sloppy":
                reference = copy.deepcopy(request)
                for _ in range(rng.choice((1, 1, 2, 3))):
                    _spoil(request, reference, rng)
                yield Mutation("sloppy", case["settings"], _text(request), reference)
            case "forbidden":
                for _ in range(rng.choice((1, 2))):
                    _spoil_around(request, rng)
                yield Mutation("forbidden", case["settings"], _text(request))
            case "private":
                yield Mutation("private", case["settings"], *_flagged(request, rng))
            case _:
                yield Mutation("bytes", case["settings"], torn(_text(request), rng, rng.choice((1, 2, 4))))


def _spoil(request: dict[str, Any], reference: dict[str, Any], rng: random.Random) -> None:
    """Put a value that cannot be read into a field of `request`, and take the field out of `reference`."""
    where = rng.randrange(4)
    imp = rng.randrange(len(request["imp"]))
    impression = request["imp"][imp]
    named = [name for name in FORMATS if isinstance(impression.get(name), dict)]
    if where == 1:
        _put(request, reference, ("imp", imp), OF_IMPRESSION, rng)
    elif where == 2 and isinstance(request.get("user"), dict):
        _put(request, reference, ("user",), OF_USER, rng)
    elif where == 3 and named:
        _put(request, reference, ("imp", imp, rng.choice(named)), OF_FORMAT, rng)
    else:
        _put(request, reference, (), OF_REQUEST, rng)


def _put(
    request: dict[str, Any], reference: dict[str, Any], place: Path, fields: dict[str, tuple[Any, ...]],
    rng: random.Random,
) -> None:  # fmt: skip
    name = rng.choice(tuple(fields))
    inner, other = request, reference
    for part in place:
        inner, other = inner[part], other[part]  # type: ignore[index]
    inner[name] = rng.choice(fields[name])
    other.pop(name, None)


def _spoil_around(request: dict[str, Any], rng: random.Random) -> None:
    """The same with fields that forbid nothing: whatever they hold, nothing may be bid."""
    fields = {name: OF_REQUEST[name] for name in ("tmax", "test", "at", "site", "app", "ext", "acat", "unheard_of")}
    if rng.random() < 0.5:
        _put(request, copy.deepcopy(request), (), fields, rng)
    else:
        fields = {name: OF_IMPRESSION[name] for name in ("tagid", "secure", "instl", "exp", "ext", "metric")}
        _put(request, copy.deepcopy(request), ("imp", rng.randrange(len(request["imp"]))), fields, rng)


def _flagged(request: dict[str, Any], rng: random.Random) -> tuple[bytes, dict[str, Any]]:
    reference = {name: value for name, value in request.items() if name != "user"}
    return _text(with_signal({**request, "user": {"id": "u17"}}, rng.choice(SIGNALS))), reference


def _text(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()
