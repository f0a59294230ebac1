"""The order of the data: every row at most once an epoch, the same batches for any number of workers and any start."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.training.data.order import RequestOrder, RowFiles
from adbeam.training.data.rows import RowFormat
from adbeam.training.data.stream import RequestStream


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


@pytest.fixture
def sized(tmp_path: Path) -> tuple[RowFiles, RowFormat]:
    """4000 rows of histories and targets of many sizes; the first static feature is the row's number."""
    row_format = RowFormat(
        static=1, token=1, context_length=41, levels=1, targets=8, wide_static=False, wide_codes=False, short_length=40
    )
    rng = np.random.default_rng(0)
    rows = np.zeros(4000, dtype=row_format.dtype)
    rows["static_F"][:, 0], rows["code_ST"] = np.arange(4000), -1
    for row, tokens, targets in zip(rows, rng.integers(0, 41, 4000), rng.integers(1, 9, 4000), strict=True):
        row["code_ST"][1 : 1 + tokens], row["weight_M"][:targets] = 0, 1.0
    pq.write_table(row_format.to_table(rows), tmp_path / "rows.parquet", row_group_size=256)
    return RowFiles(tmp_path, ("rows.parquet",), (4000,)), row_format


def sized_steps(
    sized: tuple[RowFiles, RowFormat], plan: RequestOrder, world: int, *, buckets: bool = True, first: int = 0
) -> dict[int, np.ndarray]:
    """Of each step of an epoch: row number, context tokens, targets [N, 3], by row number."""
    files, row_format = sized
    steps: dict[int, list[np.ndarray]] = {}
    for rank in range(world):
        stream = RequestStream(files, plan, rank, world, use_ray=False, buckets=row_format if buckets else None)
        for step, table in stream.tables(first, plan.steps_per_epoch):
            number = row_format.from_table(table)["static_F"]
            steps.setdefault(step, []).append(np.concatenate([number, row_format.sizes(table)], axis=1))
    rows = {step: np.concatenate(parts) for step, parts in steps.items()}
    return {step: part[np.argsort(part[:, 0])] for step, part in rows.items()}


def padding(steps: dict[int, np.ndarray]) -> float:
    """Share of the places of the batches that hold neither token nor target."""
    places = sum(len(row) * (row[:, 1].max() + row[:, 2].max()) for row in steps.values())
    return 1 - sum(row[:, 1:].sum() for row in steps.values()) / places


@pytest.mark.parametrize("world", [2, 4])
def test_buckets_are_the_same_for_any_number_of_workers_and_any_start(
    sized: tuple[RowFiles, RowFormat], world: int
) -> None:
    plan = order(rows=4000, batch=16, window_steps=32)
    alone = sized_steps(sized, plan, 1)
    numbers = np.concatenate([rows[:, 0] for rows in alone.values()])
    assert len(np.unique(numbers)) == len(numbers) == plan.steps_per_epoch * 16
    for other in (sized_steps(sized, plan, world), sized_steps(sized, plan, 1, first=37)):
        assert all(np.array_equal(rows, alone[step]) for step, rows in other.items())


def test_buckets_leave_little_padding(sized: tuple[RowFiles, RowFormat]) -> None:
    plan = order(rows=4000, batch=16, window_steps=256)
    steps = sized_steps(sized, plan, 1)
    assert padding(sized_steps(sized, plan, 1, buckets=False)) > 0.3
    assert padding(steps) < 0.1
    context = [rows[:, 1].mean() for rows in steps.values()]
    assert abs(np.corrcoef(context, np.arange(len(context)))[0, 1]) < 0.5, "short rows come first"


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
