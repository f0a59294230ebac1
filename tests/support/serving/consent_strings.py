"""Consent strings for tests: written here bit by bit, apart from the code that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
VENDOR = 700
PURPOSES = (1, 3, 4, 7, 10)
Ranges = Sequence[tuple[int, int]]


def base64url(bits: str) -> str:
    """Bits, filled up with zeros, as characters."""
    bits += "0" * (-len(bits) % 6)
    return "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def bits_of(text: str) -> str:
    """The other way round."""
    return "".join(number(ALPHABET.index(character), 6) for character in text)


def number(value: int, count: int) -> str:
    """A whole number of so many bits."""
    return f"{value:0{count}b}"


def marked(places: Iterable[int], count: int) -> str:
    """So many bits, of which these, counted from 1, are set."""
    found = set(places)
    return "".join("1" if place in found else "0" for place in range(1, count + 1))


def ranges(entries: Ranges) -> str:
    """Entries of vendor ranges, with their number."""
    parts = [
        "0" + number(first, 16) if first == last else "1" + number(first, 16) + number(last, 16)
        for first, last in entries
    ]
    return number(len(parts), 12) + "".join(parts)


def vendors(named: Iterable[int] | None = None, as_ranges: Ranges | None = None) -> str:
    """A list of vendors, as bits or as ranges."""
    if as_ranges is not None:
        return number(max((last for _, last in as_ranges), default=0), 16) + "1" + ranges(as_ranges)
    found = sorted(named or ())
    most = found[-1] if found else 0
    return number(most, 16) + "0" + marked(found, most)


def disclosed(named: Iterable[int]) -> str:
    """The segment of disclosed vendors."""
    return base64url(number(1, 3) + vendors(named))


def tc_string(
    *, purposes: Iterable[int] = PURPOSES, interests: Iterable[int] = (), consent: str = vendors([VENDOR]),
    interest: str = vendors([]), restrictions: Sequence[tuple[int, int, Ranges]] = (),
    segments: Sequence[str] = (disclosed([VENDOR]),), created: datetime = datetime(2026, 6, 1, tzinfo=UTC),
    version: int = 2, policy: int = 5, service_specific: int = 1, more: str = "",
) -> str:  # fmt: skip
    """A TC string; by default everything is allowed to VENDOR."""
    moment = number(int(created.timestamp() * 10), 36)
    limits = number(len(restrictions), 12) + "".join(
        number(purpose, 6) + number(kind, 2) + ranges(named) for purpose, kind, named in restrictions
    )
    core = (
        number(version, 6) + moment + moment + number(10, 12) + number(1, 12) + number(0, 6) + number(131, 12)
        + number(48, 12) + number(policy, 6) + number(service_specific, 1) + "0" + marked([], 12)
        + marked(purposes, 24) + marked(interests, 24) + "0" + number(0, 12) + consent + interest + limits + more
    )  # fmt: skip
    return ".".join([base64url(core), *segments])


def fibonacci(value: int) -> str:
    """A number in Fibonacci coding."""
    worths = [1, 2]
    while worths[-1] <= value:
        worths.append(worths[-1] + worths[-2])
    code = ""
    for worth in reversed(worths[:-1]):
        code = ("1" if worth <= value else "0") + code
        value -= worth if worth <= value else 0
    return code.rstrip("0") + "1"


def gpp_string(sections: Mapping[int, str]) -> str:
    """A GPP string; the header names every section alone."""
    header, last = number(3, 6) + number(1, 6) + number(len(sections), 12), 0
    for section in sorted(sections):
        header += "0" + fibonacci(section - last)
        last = section
    return "~".join([base64url(header), *(sections[section] for section in sorted(sections))])
