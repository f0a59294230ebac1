"""Written moments in the forms that exports use, rewritten as ISO 8601 that Arrow reads."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

HAS_ZONE = r"\d(Z|[+-]\d\d(:?\d\d)?)$"
"""A written time that ends with a zone; a date of its own does too, and has no colon."""
_ZONE = r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_DIGITS = r"([0-9]{4})([0-9]{2})([0-9]{2})"
COMPACT = r"^[0-9]{8}([0-9]{4}|[0-9]{6}([0-9]{3}|[0-9]{6}|[0-9]{9})?)?$"
"""Digits alone: a date, minutes, seconds, or seconds with 3, 6 or 9 digits of a fraction."""
_REWRITES = (
    (r"^\s+|\s+$", ""),
    (r"(?i)\s*(?:UTC|GMT|Z)$", "Z"),
    (r"([0-9])\s+([+-][0-9]{2}(?::?[0-9]{2})?)$", r"\1\2"),
    (rf"^{_DIGITS}$", r"\1-\2-\3"),
    (rf"^{_DIGITS}[Tt ]?([0-9]{{2}}):?([0-9]{{2}}){_ZONE}$", r"\1-\2-\3T\4:\5:00\6"),
    (rf"^{_DIGITS}[Tt ]?([0-9]{{2}}):?([0-9]{{2}}):?([0-9]{{2}}){_ZONE}$", r"\1-\2-\3T\4:\5:\6\7"),
    (
        rf"^{_DIGITS}([0-9]{{2}})([0-9]{{2}})([0-9]{{2}})([0-9]{{3}}|[0-9]{{6}}|[0-9]{{9}}){_ZONE}$",
        r"\1-\2-\3T\4:\5:\6.\7\8",
    ),
    (
        rf"^{_DIGITS}[Tt ]?([0-9]{{2}}):?([0-9]{{2}}):?([0-9]{{2}})[.,]([0-9]{{1,9}}){_ZONE}$",
        r"\1-\2-\3T\4:\5:\6.\7\8",
    ),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})t", r"\1T"),
    (r"^([^,]*[0-9]),([0-9]{1,9})((?:Z|[+-][0-9:]+)?)$", r"\1.\2\3"),
    (r"(\.[0-9]{6})[0-9]{1,3}((?:Z|[+-][0-9:]+)?)$", r"\1\2"),
)
"""Outer blanks; a zone apart or by name; digits without a separator; a decimal comma; parts of a microsecond."""


def as_iso(text: pa.Array) -> pa.Array:
    """The same moments in ISO 8601; what is in none of the forms stays as it is."""
    for pattern, replacement in _REWRITES:
        text = pc.replace_substring_regex(text, pattern, replacement)
    return text
