"""GPP strings: a header that names the sections, and the sections.

After IAB Tech Lab's "GPP Consent String Specification": the header is six bits of type (3), six of version (1) and the
section ids as ranges of Fibonacci numbers, each counted from the one before.
"""

from __future__ import annotations

from adbeam.consent.bits import LONGEST, Bits, Unreadable

TYPE, VERSION = 3, 1
MOST_SECTIONS = 64


def read_gpp(text: str) -> dict[int, str]:
    """The sections by their ids, as they are written; raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable("too long")
    header, *sections = text.split("~")
    ids = section_ids(header)
    if len(ids) != len(sections):
        raise Unreadable("other sections than the header names")
    return dict(zip(ids, sections, strict=True))


def section_ids(header: str) -> list[int]:
    """The sections that a header names, rising; raises Unreadable."""
    bits = Bits(header)
    if bits.number(6) != TYPE or bits.number(6) != VERSION:
        raise Unreadable("no GPP header of version 1")
    found: list[int] = []
    last = 0
    for _ in range(bits.number(12)):
        is_range = bits.flag()
        first = last + bits.fibonacci()
        last = first + bits.fibonacci() if is_range else first
        if len(found) + last - first >= MOST_SECTIONS:
            raise Unreadable("too many sections")
        found.extend(range(first, last + 1))
    bits.end()
    return found
