"""US Privacy strings of four characters: version, notice, opt-out of sale, service provider agreement.

After IAB Tech Lab's "U.S. Privacy String", version 1.
"""

from __future__ import annotations

import re

from adbeam.consent.bits import Unreadable

_FORM = re.compile("1[YN-][YN-][YN-]", re.IGNORECASE)


def has_opted_out(text: str) -> bool:
    """Whether the person has opted out of the sale of their data; raises Unreadable for any other form."""
    if not _FORM.fullmatch(text):
        raise Unreadable("no US Privacy string")
    return text[2] in "Yy"
