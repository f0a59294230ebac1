"""Notices of wins, billing and losses: URLs of the operator, with macros that the exchange fills and names of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from adbeam.errors import nearest_name

MACROS = (
    "AUCTION_ID", "AUCTION_BID_ID", "AUCTION_IMP_ID", "AUCTION_SEAT_ID", "AUCTION_AD_ID", "AUCTION_PRICE",
    "AUCTION_CURRENCY", "AUCTION_MBR", "AUCTION_LOSS", "AUCTION_MIN_TO_WIN", "AUCTION_MULTIPLIER", "AUCTION_IMP_TS",
)  # fmt: skip
"""The substitution macros of OpenRTB 2.6, section 4.4."""
NAMES = ("item_id", "campaign", "request_id", "imp_id", "bid_id")
_MACRO = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"(?<!\$)\{([^}]*)\}")


def checked(template: str) -> str:
    """`template`; raises ValueError for what is no URL, or has a macro or name that nobody fills."""
    if not template.startswith(("https://", "http://")):
        raise ValueError("Input should be a URL that begins with https:// or http://")
    for kind, pattern, known in (("${{{}}}", _MACRO, MACROS), ("{{{}}}", _NAME, NAMES)):
        for found in pattern.findall(template):
            name = found.removesuffix(":B64") if known is MACROS else found
            if name not in known:
                near = nearest_name(name, known)
                raise ValueError(f"nobody fills {kind.format(found)}: did you mean {kind.format(near)}?")
    return template


def filled(template: str, names: Mapping[str, str]) -> str:
    """The URL of one bid: our names percent-encoded, empty where unknown; the macros stay for the exchange."""
    return _NAME.sub(lambda found: quote(names.get(found[1], ""), safe=""), template)
