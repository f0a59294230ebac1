"""Which share of the training money the dearest rows hold: an amount in the wrong unit shows here, recall hides it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.money import MOST_MEDIANS, MoneySketch
from adbeam.logs.prepared import PreparedLog
from adbeam.records import ACTIONS, SPLITS, TARGET_VALUE

DEAREST = 0.001
"""The share of the rows that is looked at: one row where there are fewer than 2,000."""
FAR_MEDIANS = 100.0
"""A dearest row below this many medians is no slip: of ten orders one may well hold most of the money."""


def check_money(prepared: PreparedLog, action: str, most: float) -> str:
    """What to print of the money of the training targets, events of `action`; raises UserError where the dearest rows
    hold more than `most`.

    The dearest rows are 0.1 % of those with money, at least one, or all above 1,000 times the median where those are
    more. They are refused only where the dearest of them is above 100 times the median.
    """
    money = training_money(prepared.sequences(), action)
    rows = money.rows.total()
    if not rows:
        return f"the training {action}s carry no money"
    dearest = max(1, round(DEAREST * rows), money.beyond_reason)
    share = money.share_of_dearest(dearest)
    said = (
        f"the dearest {dearest:,} of {rows:,} training {action}s with money hold {share:.1%} of it "
        f"(largest {money.largest:,.2f}, median {money.median:,.3g})"
    )
    if share > most and money.largest > FAR_MEDIANS * money.median:
        raise UserError(
            said,
            field="export.max_dearest_share",
            value=most,
            remedy=f"are those above {MOST_MEDIANS:,.0f} medians micros, cents or another currency? Mend the log and "
            "prepare again; or raise the bound if that is what they are worth",
        )
    return said


def training_money(shards: list[Path], action: str) -> MoneySketch:
    """What the training split's targets are worth in learning, a few users in memory at a time."""
    money = MoneySketch()
    for shard in shards:
        file = pq.ParquetFile(shard)
        names = ["split", "action", TARGET_VALUE if TARGET_VALUE in file.schema_arrow.names else "value"]
        for batch in file.iter_batches(batch_size=4096, columns=names):
            split, deed, value = (pc.list_flatten(batch[name]) for name in names)
            wanted = pc.and_(pc.equal(split, SPLITS.index("train")), pc.equal(deed, ACTIONS.index(action)))
            money.add(MoneySketch.of(value.filter(wanted).to_numpy()))
    return money
