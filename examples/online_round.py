"""One round of the online loop: python examples/online_round.py URL (after own_log/run.py)

Visitors ask an endpoint for ads, tap and order some, and the round learns from the endpoint's request and event logs.
The new bundle is published only where the gate finds it not worse. The endpoint must write both logs, for example
`adbeam serve --config serving/ads.yaml --work-dir runs/examples`, with a user key in ADBEAM_USER_KEY.
"""

import random
import sys
import time

import adbeam
from adbeam.serving.client import call

VISITS = 120


def visit(url: str, number: int, draw: random.Random) -> int:
    """One request and what came of it; returns the number of events."""
    user, now_ms = f"v{draw.randrange(60)}", int(time.time() * 1000)
    _, answer = call(url, "POST", "/v1/ads", {"user_id": user, "count": 5, "scene": "home", "deadline_ms": 2000})
    deeds = [("impression", ad, None) for ad in answer["ads"]]
    if draw.random() < 0.7:
        ad = draw.choice(answer["ads"])
        deeds += [("click", ad, None), ("conversion", ad, ad["price"])]
    events = [
        {"event_id": f"{answer['request_id']}-{place}", "request_id": answer["request_id"], "user_id": user,
         "timestamp": now_ms, "item_id": ad["item_id"], "item_kind": "ad", "scene": "home", "action": action,
         "price": price}
        for place, (action, ad, price) in enumerate(deeds)
    ]  # fmt: skip
    call(url, "POST", "/v1/events", {"events": events})
    return len(events)


def main(url: str, overrides: list[str]) -> None:
    """Visits, then one round, with `section.key=value` overrides of the YAML."""
    draw = random.Random(0)
    print(sum(visit(url, number, draw) for number in range(VISITS)), "events posted")
    time.sleep(3)  # the last files of both logs are closed (rotate_seconds)
    config = adbeam.Config.load("examples/own_log/own_log.yaml", dict(pair.split("=", 1) for pair in overrides))
    for result in adbeam.steps.online(config, rounds=1):
        print(f"round {result.number}: {result.verdict}: {result.reason or 'not worse'}; in force is {result.bundle}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", sys.argv[2:])
