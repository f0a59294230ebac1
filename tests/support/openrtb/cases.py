"""Bid requests with their right answers: JSON files of cases, and judging an answer.

A case is {"name", "request" (or "body", text of any kind), "settings": a key of exchange.SETTINGS, "right"}. `right`
says "status", and of a 200: "nbr", or the bids: "imps" (their impids, in any order), "cur", "deals" (their dealids),
"mtypes", "sizes" ([w, h], of those that tell one), "not_domains", "not_cats", "not_bundles" and "not_attrs" (nothing of
them is bid), "price_min", "has" (fields of every bid), "user" (the answer is the one to the same request of this user
alone).
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from tests.support.asgi import Reply
from tests.support.openrtb.exchange import Exchange

Case = dict[str, Any]
PRIVATE = ("regs", "device", "source")


def read_cases(folder: Path) -> list[Case]:
    """The cases of all files of a folder, each with its settings; names are used once."""
    cases = [case for path in sorted(folder.glob("*.json")) for case in json.loads(path.read_text(encoding="utf-8"))]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    return [{"settings": "full", **case} for case in cases]


def bids_of(reply: Reply) -> list[dict[str, Any]]:
    """The bids of an answer."""
    if reply.status != 200:
        return []
    return [bid for seat in reply.json.get("seatbid", ()) for bid in seat["bid"]]


def digest(reply: Reply) -> str:
    """What an answer bids, without the ids of requests and bids."""
    named = [(bid["impid"], bid["adid"], bid["price"], bid.get("dealid")) for bid in bids_of(reply)]
    told = [reply.status, None if reply.status != 200 else reply.json.get("nbr"), sorted(named, key=str)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


async def faults(case: Case, exchange: Exchange) -> list[str]:
    """What is wrong with the answer to a case; nothing where it is right."""
    right = case["right"]
    asked = case["body"].encode() if "body" in case else case["request"]
    reply = await exchange.ask(asked)
    found = [f"status {reply.status}, not {right['status']}"] if reply.status != right["status"] else []
    if reply.status != 200:
        return found
    answer, bids = reply.json, bids_of(reply)
    for name in ("nbr", "cur"):
        if name in right and answer.get(name) != right[name]:
            found.append(f"{name} {answer.get(name)}, not {right[name]}")
    if "request" in case and answer["id"] != str(case["request"].get("id")):
        found.append(f"id {answer['id']}")
    for name, held in (("imps", "impid"), ("deals", "dealid"), ("mtypes", "mtype")):
        if name in right and sorted(map(str, (bid.get(held) for bid in bids))) != sorted(map(str, right[name])):
            found.append(f"{name} {[bid.get(held) for bid in bids]}, not {right[name]}")
    found += _told(bids, right)
    if "user" in right:
        alone = {**copy.deepcopy(case["request"]), "user": {"id": right["user"]} if right["user"] else None}
        for name in PRIVATE:
            alone.pop(name, None)
        if digest(await exchange.ask(alone)) != digest(reply):
            found.append(f"the answer is not that of user {right['user']}")
    return found


def _told(bids: list[dict[str, Any]], right: dict[str, Any]) -> list[str]:
    found = []
    for bid in bids:
        missing = [name for name in right.get("has", ()) if name not in bid]
        found += [f"{name} is missing in {bid}" for name in missing]
        if "sizes" in right and "w" in bid and [bid["w"], bid["h"]] not in right["sizes"]:
            found.append(f"size {bid['w']} x {bid['h']}")
        if bid["price"] < right.get("price_min", 0):
            found.append(f"price {bid['price']}")
        for name, held in (("not_domains", "adomain"), ("not_cats", "cat"), ("not_attrs", "attr")):
            found += [f"{held} {value}" for value in bid.get(held, ()) if value in right.get(name, ())]
        if bid.get("bundle") in right.get("not_bundles", ()):
            found.append(f"bundle {bid['bundle']}")
    return found
