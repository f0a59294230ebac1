"""The order of the data: every row at most once an epoch, the same batches for any number of workers and any start."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.training.order import RequestOrder, RowFiles
from adbeam.training.rows import RowFormat
from adbeam.training.stream import RequestStream


def order(rows: int = 103, batch: int = 8, lanes: int = 4, window_steps: int = 3, seed: int = 0) -> RequestOrder:
    return RequestOrder(rows=rows, batch=batch, lanes=lanes, window_steps=window_steps, seed=seed)


@pytest.fixture
def files(tmp_path: Path) -> RowFiles:
    """103 rows in three shards of small row groups; the column is the row's number."""
    edges = (0, 40, 41, 103)
    for place, (start, end) in enumerate(pairwise(edges)):
        table = pa.table({"number": np.arange(start, end)})
        pq.write_table(table, tmp_path / f"rows-{place}.parquet", row_group_size=7)
    return RowFiles(tmp_path, ("rows-0.parquet", "rows-1.parquet", "rows-2.parquet"), (40, 1, 62))


def batches(files: RowFiles, order: RequestOrder, world: int, first: int, end: int) -> list[list[int]]:
    """Row numbers of each global step, whoever read them."""
    streams = [RequestStream(files, order, rank, world, use_ray=False) for rank in range(world)]
    steps: dict[int, list[int]] = {}
    for stream in streams:
        for step, table in stream.tables(first, end):
            steps.setdefault(step, []).extend(table["number"].to_pylist())
    return [steps[step] for step in sorted(steps)]


def test_an_epoch_shows_each_row_at_most_once_and_leaves_out_less_than_a_batch(files: RowFiles) -> None:
    plan = order()
    seen = [number for step in batches(files, plan, 1, 0, plan.steps_per_epoch) for number in step]
    assert len(seen) == len(set(seen)) == plan.steps_per_epoch * plan.batch
    assert 103 - len(seen) < plan.batch + plan.lanes


@pytest.mark.parametrize("world", [2, 3, 4])
def test_any_number_of_workers_shares_the_same_batches(files: RowFiles, world: int) -> None:
    plan = order()
    alone, shared = (batches(files, plan, count, 0, 2 * plan.steps_per_epoch) for count in (1, world))
    assert [sorted(step) for step in shared] == [sorted(step) for step in alone]


@pytest.mark.parametrize("first", [1, 3, 11, 12, 13, 17])
def test_a_start_inside_an_epoch_goes_on_where_an_uninterrupted_run_would(files: RowFiles, first: int) -> None:
    plan = order()
    assert batches(files, plan, 1, first, 25) == batches(files, plan, 1, 0, 25)[first:]


def test_epochs_and_seeds_shuffle_differently(files: RowFiles) -> None:
    plan = order()
    first, second = (batches(files, plan, 1, start, start + 1)[0] for start in (0, plan.steps_per_epoch))
    assert sorted(first) != sorted(second)
    assert sorted(first) != sorted(batches(files, order(seed=1), 1, 0, 1)[0])


def test_rows_come_in_the_order_asked_for_with_repeats(files: RowFiles) -> None:
    wanted = np.array([102, 40, 0, 41, 39, 40])
    assert files.take(wanted)["number"].to_pylist() == wanted.tolist()


def test_fewer_rows_than_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.batch_requests"):
        order(rows=5)


def test_rows_survive_the_way_through_a_table() -> None:
    row_format = RowFormat(static=2, token=3, context_length=4, levels=3, targets=2, wide_static=False, wide_codes=True)
    rng = np.random.default_rng(0)
    rows = np.frombuffer(rng.bytes(5 * row_format.dtype.itemsize), dtype=row_format.dtype).copy()
    rows["value_M"], rows["weight_M"], rows["user_value"] = 1.5, 2.5, rng.random(5)
    table = row_format.to_table(rows)
    back = row_format.from_table(pa.concat_tables([table.slice(3), table.slice(0, 3)]))
    for name in row_format.dtype.names or ():
        np.testing.assert_array_equal(back[name], np.concatenate([rows[name][3:], rows[name][:3]]))
