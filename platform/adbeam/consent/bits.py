"""Bits of consent strings: base64url, whole numbers of so many bits, Fibonacci numbers.

Both frameworks write fields of bits and fill the last character with zeros (IAB Tech Lab: "Consent string and vendor
list formats v2", "GPP Consent String Specification").
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode

LONGEST = 8192
"""Characters of a string that is read: one that names all vendors of the list has about two thousand."""
_ALPHABET = re.compile("[A-Za-z0-9_-]+")
_LEADING = b"\1"
"""Keeps the zeros that a segment begins with."""
_FIBONACCI = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765, 10946, 17711)


class Unreadable(ValueError):
    """A string that is not what its specification says."""


class Bits:
    """The bits of one segment, read from the left."""

    def __init__(self, text: str) -> None:
        """Raises Unreadable for what is no base64url, or too long."""
        if len(text) > LONGEST or not _ALPHABET.fullmatch(text):
            raise Unreadable("no base64url")
        whole = text + "A" * (-len(text) % 4)  # zeros: some writers fill up to six bits, some to eight
        self._bits = f"{int.from_bytes(_LEADING + urlsafe_b64decode(whole)):b}"[1 : 1 + 6 * len(text)]
        self._at = 0

    @property
    def left(self) -> int:
        """Bits that were not read yet."""
        return len(self._bits) - self._at

    def take(self, count: int) -> str:
        """The next bits, as 0 and 1; raises Unreadable where there are fewer."""
        end = self._at + count
        if end > len(self._bits):
            raise Unreadable("cut off")
        taken, self._at = self._bits[self._at : end], end
        return taken

    def number(self, count: int) -> int:
        """The next bits as a whole number."""
        return int(self.take(count), 2)

    def flag(self) -> bool:
        """The next bit."""
        return self.take(1) == "1"

    def numbers_set(self, count: int) -> frozenset[int]:
        """Of the next bits, counted from 1, those that are set."""
        return frozenset(place for place, bit in enumerate(self.take(count), 1) if bit == "1")

    def fibonacci(self) -> int:
        """The next number in Fibonacci coding, which ends with two ones."""
        end = self._bits.find("11", self._at)
        if not 0 <= end - self._at < len(_FIBONACCI):
            raise Unreadable("no Fibonacci number")
        code = self.take(end + 2 - self._at)[:-1]
        return sum(worth for worth, bit in zip(_FIBONACCI, code, strict=False) if bit == "1")

    def end(self) -> None:
        """Raises Unreadable where a bit that is left is set: then the fields are others than those read."""
        if "1" in self._bits[self._at :]:
            raise Unreadable("longer than its fields")
