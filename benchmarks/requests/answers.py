"""What a replica answers to cases and mutations, judged."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from tests.support.asgi import Reply
from tests.support.openrtb.cases import bids_of, digest, faults, read_cases
from tests.support.openrtb.exchange import SETTINGS, Exchange, exchange, write_exchange_bundle

from benchmarks.requests.mutations import Kind, Mutation, mutations

CASES = Path(__file__).parents[2] / "tests/unit/serving/openrtb/cases"
CONCURRENT = 32
SHOWN = 20
"""Wrong answers that the result file holds."""


def bid_figures(number: int, seed: int) -> dict[str, Any]:
    """Figures of all cases and of `number` mutations; `wrong` are some of those that were answered wrong."""
    return asyncio.run(_measured(number, seed))


async def _measured(number: int, seed: int) -> dict[str, Any]:
    cases = read_cases(CASES)
    wrong: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            bundle = write_exchange_bundle(Path(folder) / "exchange")
            asked = {
                name: await stack.enter_async_context(exchange(bundle, Path(folder) / name, openrtb))
                for name, openrtb in SETTINGS.items()
            }
            right = 0
            for case in cases:
                found = await faults(case, asked[case["settings"]])
                right += not found
                wrong += [[case["name"], *found]] if found else []
            count: Counter[str] = Counter()
            for some in _pages(mutations(cases, number, seed)):
                await asyncio.gather(*(_judge(each, asked[each.settings], count, wrong) for each in some))
    optional = count["sloppy"] + count["private"]
    return {
        "request_cases_right": right,
        "request_cases_all": len(cases),
        "bid_mutations": sum(count[kind] for kind in get_args(Kind)),
        "bid_5xx": count["5xx"],
        "bid_422": count["422"],
        "bid_forbidden": count["bid"],
        "bid_optional_mutations": optional,
        "bid_answer_equal": count["equal"] / optional if optional else None,
        "bid_needless_nobid": count["needless"],
        "wrong": wrong[:SHOWN],
    }


def _pages(found: Iterable[Mutation]) -> Iterator[list[Mutation]]:
    left = iter(found)
    while page := list(islice(left, CONCURRENT)):
        yield page


async def _judge(mutation: Mutation, asked: Exchange, count: Counter[str], wrong: list[Any]) -> None:
    reply = await asked.ask(mutation.body)
    count[mutation.kind] += 1
    for name, is_so in (("5xx", reply.status >= 500), ("422", reply.status == 422),
                        ("bid", mutation.kind == "forbidden" and bool(bids_of(reply)))):  # fmt: skip
        if is_so:
            count[name] += 1
            wrong.append([name, mutation.body.decode(errors="replace")[:2000]])
    if mutation.reference is None:
        return
    reference = await asked.ask(mutation.reference)
    if digest(reply) != digest(reference):  # the hour may have turned, or a bucket of time, between the two
        reply, reference = await asked.ask(mutation.body), await asked.ask(mutation.reference)
    if digest(reply) == digest(reference):
        count["equal"] += 1
        return
    count["needless"] += _bids_less(reply, reference)
    wrong.append(
        [mutation.kind, mutation.body.decode()[:2000], reply.body.decode()[:500], reference.body.decode()[:500]]
    )


def _bids_less(reply: Reply, reference: Reply) -> bool:
    return len(bids_of(reply)) < len(bids_of(reference))
