"""The HTTP border of a replica under bid requests as exchanges send them, beside another checkout.

Both sides serve one bundle with settings that both know, in turn and interleaved.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.support.openrtb.exchange import write_exchange_bundle

from benchmarks.money.border import BODIES, HERE, SETTINGS, compare, side

USERS = 997


def http_figures(bundle: Path | None, other: Path, pairs: int) -> dict[str, Any]:
    """`request_http_ratio`: requests a second of processor time, here over there."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle or write_exchange_bundle(Path(folder) / "exchange")
        sides = []
        for checkout, name in ((HERE, "here"), (other, "there")):
            prepared = Path(folder) / name
            prepared.mkdir()
            (prepared / SETTINGS).write_text("{}")
            (prepared / BODIES).write_text(json.dumps([_asked(number) for number in range(2 * USERS)]))
            sides.append(side(checkout, bundle, prepared))
        found = compare(sides, pairs)
    return {"request_http_ratio": found.pop("http_ratio"), **{f"request_{name}": each for name, each in found.items()}}


def _asked(number: int) -> tuple[str, dict[str, Any]]:
    """Every other request is a bid request with what a banner on a page usually brings."""
    user = f"user{number % USERS}"
    if number % 2:
        return "/v1/ads", {"user_id": user, "count": 10, "deadline_ms": 5000}
    return "/v1/openrtb", {
        "id": f"80ce30c53c16e6ede735f123ef6e3236-{number}",
        "at": 1,
        "cur": ["USD"],
        "imp": [{"id": "1", "tagid": "top", "secure": 1, "bidfloorcur": "USD",
                 "banner": {"w": 300, "h": 250, "format": [{"w": 300, "h": 250}, {"w": 300, "h": 600}], "pos": 1}}],
        "site": {"id": "102855", "domain": "example.com", "cat": ["IAB3-1"], "page": "https://example.com/1234.html",
                 "publisher": {"id": "8953", "name": "example.com"}},
        "device": {"ua": "Mozilla/5.0 (X11; Linux x86_64)", "ip": "192.0.2.1", "language": "en", "os": "Linux",
                   "geo": {"country": "DEU", "region": "BE"}, "devicetype": 2},
        "user": {"id": user},
        "bcat": ["IAB25", "IAB26"],
        "badv": ["blocked.example"],
        "tmax": 5000,
    }  # fmt: skip
