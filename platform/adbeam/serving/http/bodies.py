"""The bodies of answers, as plain mappings: schemas.AdResponse is their reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from adbeam.catalogue.index import Sid
from adbeam.catalogue.updates import AdChange
from adbeam.serving.engine.request import Decoded

Body = dict[str, Any]


def decoded_body(request_id: str, decoded: Decoded, *, source: Literal["model", "cache"], degraded: bool) -> Body:
    """The answer to a decoded request, or to a later one that shares it."""
    served = {
        "model_version": decoded.model_version,
        "source": source,
        "degraded": degraded,
        "cold_start": decoded.answer.cold_start,
        "rung": decoded.rung,
        "widths": decoded.widths,
        "full_widths": decoded.full_widths,
        "queue_ms": round(decoded.queue_ms, 3),
        "decode_ms": round(decoded.decode_ms, 3),
    }
    return {"request_id": request_id, "ads": decoded.answer.ads, "served": served}


def fallback_body(
    request_id: str, ads: list[dict[str, Any]], model_version: str, full_widths: tuple[int, ...], waited_ms: float
) -> Body:
    """The answer of popular ads; nothing was looked up about the user."""
    served = {
        "model_version": model_version,
        "source": "fallback",
        "degraded": True,
        "cold_start": False,
        "rung": None,
        "widths": None,
        "full_widths": full_widths,
        "queue_ms": round(waited_ms, 3),
        "decode_ms": 0.0,
    }
    return {"request_id": request_id, "ads": ads, "served": served}


def receipt_body(last: int, changes: Sequence[AdChange], sids: Sequence[Sid | None]) -> Body:
    """What became of changes of ads; `last` is the number of the last in the update log."""
    ads = [
        {"item_id": change.item_id, "operation": change.operation, "sid": sid}
        for change, sid in zip(changes, sids, strict=True)
    ]
    return {"last": last, "ads": ads}
