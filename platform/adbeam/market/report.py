"""What `adbeam market` prints: the account of a simulation, and revenue by policy. Every line says it is simulated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_text(result: Mapping[str, Any]) -> str:
    """The result as JSON."""
    return json.dumps(result, indent=2)


def account_lines(account: Mapping[str, Any]) -> list[str]:
    """What `simulate` wrote, and where."""
    events = ", ".join(f"{count} {action}s" for action, count in account["events"].items())
    made = f"{account['users']} users, {account['ads']} ads, {account['days']} days, seed {account['seed']}"
    return [
        f"simulated market: {made}",
        f"simulated events: {events}",
        f"semantic IDs: {account['different_sids']} different",
        *(f"{what:24} {place}" for what, place in account["wrote"].items()),
    ]


def revenue_lines(result: Mapping[str, Any]) -> list[str]:
    """Revenue by policy, most first, and its share of what the truth's own choice earns; the reward model's truth AUC
    where it was asked for."""
    earned = result["revenue_per_1000_requests"]
    best, judged = earned["best"] or 1.0, result.get("reward_truth_auc", {})
    return [
        f"bundle {result['bundle']} by {result['order_by']}, {result['requests']} requests in {result['days']} days",
        f"{'policy':16} {'simulated revenue a 1000 requests':>34} {'of the best':>12}",
        *(f"{name:16} {money:34.2f} {money / best:12.1%}" for name, money in earned.items()),
        *(f"{'reward model, truth AUC, ' + name:50} {auc:.4f}" for name, auc in judged.items()),
    ]
