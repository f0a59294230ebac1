"""Signals of a bid request that forbid its person's data: a flag, or a string of TCF, GPP or US Privacy."""

from __future__ import annotations

from typing import Any

from tests.support.serving.consent_strings import VENDOR, gpp_string, tc_string, vendors

PRIVACY = {"vendor_id": VENDOR}
"""The section `privacy` of a replica that reads them."""
ALLOWED, DENIED = tc_string(), tc_string(consent=vendors([]))
SOLD = gpp_string({7: "BVQVAAAAAgA.QA"})
OPTED_OUT = ("1YYN", "1NYN", "1YN", 1)

Signal = tuple[str, dict[str, Any]]

SIGNALS: tuple[Signal, ...] = (
    *(("regs", {"coppa": value}) for value in (1, "1", True, "yes", [1], {"a": 1}, 1.5)),
    *(("device", {"lmt": value}) for value in (1, "1", True, "x", [0])),
    *(("device", {"dnt": value}) for value in (1, "1", True, "x")),
    *(("regs", {"gdpr": value}) for value in (1, "1", True, [1])),
    ("regs", {"ext": {"gdpr": 1}}),
    *(("user", {"consent": text}) for text in (DENIED, "damaged", 7, ALLOWED[:-9])),
    ("user", {"ext": {"consent": DENIED}}),
    *(("regs", {"us_privacy": text}) for text in OPTED_OUT),
    ("regs", {"ext": {"us_privacy": "1YYN"}}),
    *(("regs", {"gpp": text, "gpp_sid": [7]}) for text in (SOLD, "damaged", {"string": SOLD})),
    ("regs", {"gpp": SOLD}),
    ("regs", {"gpp_sid": [2]}),
    ("regs", {"ext": {"gpp": SOLD, "gpp_sid": [7]}}),
    ("regs", {"gpp": gpp_string({2: DENIED}), "gpp_sid": [2]}),
)
"""The object they stand in, and its fields."""


def with_signal(request: dict[str, Any], signal: Signal) -> dict[str, Any]:
    """The request, whose object of that name gets these fields."""
    part, fields = signal
    held = request.get(part)
    return {**request, part: {**(held if isinstance(held, dict) else {}), **fields}}
