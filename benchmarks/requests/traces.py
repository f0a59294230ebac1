"""What a replica keeps of people whose signals forbid it.

Bid requests with a signal that forbids the user's data are answered with the log of requests on; afterwards all files
of the replica's folder, its metrics and its cache are searched for the user's id: as it is, in base64, hashed, and
under the keyed hash of the logs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tests.support.openrtb.exchange import SETTINGS, exchange, write_exchange_bundle

from adbeam.pseudonyms import pseudonym
from benchmarks.requests.signals import ALLOWED, PRIVACY, SIGNALS, with_signal

USER, KEY, KEY_ENV = "forbidden-person-7f3a9", "k" * 32, "ADBEAM_USER_KEY"


def trace_figures() -> dict[str, Any]:
    """`forbidden_traces`: places where the user is found; `trace_control` the same with a consent string that allows
    it, which must find some."""
    return asyncio.run(_measured())


async def _measured() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_exchange_bundle(Path(folder) / "exchange")
        forbidden = [with_signal(_bid(), signal) for signal in SIGNALS]
        found = await _traces(bundle, Path(folder) / "forbidden", forbidden)
        allowed = with_signal({**_bid(), "regs": {"gdpr": 1}}, ("user", {"consent": ALLOWED}))
        control = await _traces(bundle, Path(folder) / "control", [allowed])
    return {"forbidden_traces": len(found), "trace_control": len(control), "forbidden_requests": len(forbidden),
            "traces": found}  # fmt: skip


def _bid() -> dict[str, Any]:
    user = {"id": USER, "buyeruid": USER, "eids": [{"source": "id5.example", "uids": [{"id": USER}]}]}
    return {"id": "r", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}], "user": user}


async def _traces(bundle: Path, folder: Path, requests: list[dict[str, Any]]) -> list[str]:
    """Where the user is found after these requests."""
    args = {"request_log": {"folder": str(folder / "answered")}, "cache": {"enabled": True}, "privacy": PRIVACY}
    before = os.environ.get(KEY_ENV)
    os.environ[KEY_ENV] = KEY
    try:
        async with exchange(bundle, folder, SETTINGS["full"], **args) as asked:
            for request in requests:
                reply = await asked.ask(request)
                if reply.status != 200:
                    raise SystemExit(f"a bid request was answered {reply.status}")
            told = {"metrics": repr(asked.metrics.take()), "cache": repr(vars(asked.service.cache))}
    finally:
        os.environ.pop(KEY_ENV) if before is None else os.environ.update({KEY_ENV: before})
    texts = {**told, **dict(_texts(folder))}
    return [
        f"{name} in {place}" for place, text in texts.items() for name, needle in _needles().items() if needle in text
    ]


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """All files as text; of Parquet, which compresses, also the values."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                yield f"{path.relative_to(folder)} (values)", repr(pq.read_table(path).to_pylist())


def _needles() -> dict[str, str]:
    encoded = USER.encode()
    return {
        "the id": USER,
        "the id of eids": f"id5:{USER}",
        "its base64": base64.b64encode(encoded).decode(),
        "its SHA-256": hashlib.sha256(encoded).hexdigest(),
        "its MD5": hashlib.md5(encoded).hexdigest(),
        "its keyed hash": pseudonym(KEY.encode(), USER),
    }
