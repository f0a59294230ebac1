"""What a run tells while it runs: the terminal, TensorBoard, Prometheus, and the history kept in its checkpoints.

Rank 0 posts one row an interval. In a cluster the rows reach the driver through a small actor, so the bar is drawn
where the user sits, wherever the worker runs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from adbeam.training.tracking.trackers import TensorBoard

REPEAT_SECONDS = 5.0
"""Ray drops a gauge that was not set for about 20 seconds, and a report interval may be longer."""

Row = dict[str, float]
Post = Callable[[Row], None]


def print_nothing(row: Row) -> None:
    """A post that goes nowhere."""


class RunReporter:
    """Rank 0's side: TensorBoard scalars, Prometheus gauges and the post to the driver."""

    def __init__(self, folder: Path, post: Post, *, first_step: int, prometheus: bool) -> None:
        self._board = TensorBoard(folder, first_step)
        self._post = post
        self._gauges = _gauges() if prometheus else {}
        self._shown: Row = {}
        self._closed = threading.Event()
        if prometheus:
            threading.Thread(target=self._repeat, name="adbeam-gauges", daemon=True).start()

    def report(self, row: Row) -> None:
        """Publish one row; its `step` is the optimiser step it was taken at."""
        self._board.log(int(row["step"]), {key: value for key, value in row.items() if key != "step"})
        self._shown = {key: value for key, value in row.items() if key in self._gauges}
        self._set_gauges()
        self._post(row)

    def close(self) -> None:
        """Flush TensorBoard and let the gauges go."""
        self._closed.set()
        self._board.close("closed")

    def _repeat(self) -> None:
        while not self._closed.wait(REPEAT_SECONDS):
            self._set_gauges()

    def _set_gauges(self) -> None:
        for key, value in self._shown.items():
            self._gauges[key].set(value)


def _gauges() -> dict[str, Any]:
    """Gauges that Ray exports as ray_adbeam_train_*."""
    from ray.util.metrics import Gauge

    described = {
        "loss": "VSL loss, mean over the last interval.",
        "requests_per_second": "Training requests per second, all workers.",
        "learning_rate": "Learning rate.",
        "gradient_norm": "Gradient norm before clipping.",
        "step": "Optimiser steps done.",
        "list_kl": "Divergence from the model that generated the lists, nats.",
        "list_ndcg": "NDCG of the model's order of candidates by reward.",
        "entropy_share": "Entropy of the first level over log V.",
        "invalid_share": "Share of freely drawn SIDs that no item has.",
        "collapsed_share": "Share of freely drawn SIDs that were drawn before.",
    }
    return {key: Gauge(f"adbeam_train_{key}", description=text) for key, text in described.items()}


class Printer:
    """The driver's side: a bar on a terminal, one plain line a row elsewhere."""

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._bar: Any = None
        self._lock = threading.Lock()
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("training", total=1.0, text="starting workers")
            self._bar.start()

    def __call__(self, row: Row) -> None:
        """Show one row."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(self._task, completed=row["progress"], text=describe(row, self._total))
            else:
                print(describe(row, self._total), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def describe(row: Row, total_steps: int) -> str:
    """One row in words."""
    sid = f"sid {row['sid']:.3f}  " if "sid" in row else ""
    rest = row["elapsed_seconds"] * (1 / row["progress"] - 1) if row["progress"] > 0 else 0.0
    return (
        f"step {int(row['step'])}/{total_steps}  loss {row['loss']:.4f}  {sid}"
        f"lr {row['learning_rate']:.2e}  {row['requests_per_second']:.0f} requests/s  eta {rest:.0f} s"
    )


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    return Progress(*columns, console=Console(stderr=True))


class Follower(AbstractContextManager["Follower"]):
    """Fetches posted rows from the cluster into `show`, in a thread, until the block ends; hands on `told`, the
    driver's wish to stop.
    """

    def __init__(self, show: Post, told: threading.Event) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._show, self._told = show, told
        # On the driver's own node: another may be lost, and the run goes on without it.
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @property
    def post(self) -> BoardPost:
        """What rank 0 calls with a row, from its own process."""
        return BoardPost(self._board)

    @property
    def stop(self) -> BoardStop:
        """What rank 0 asks for the driver's wish."""
        return BoardStop(self._board)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        self._stop.set()
        self._thread.join()
        self._fetch()
        ray.kill(self._board)

    def _follow(self) -> None:
        passed_on = False
        while not self._stop.wait(0.5):
            self._fetch()
            if self._told.is_set() and not passed_on:
                passed_on = True
                self._board.stop.remote()

    def _fetch(self) -> None:
        import ray

        for row in ray.get(self._board.take.remote()):
            self._show(row)


class Board:
    """Holds rows until the driver takes them, and the driver's wish to stop."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._stopped = False

    def stop(self) -> None:
        """The run is to end."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether it is."""
        return self._stopped

    def put(self, row: Row) -> None:
        """Add a row."""
        self._rows.append(row)

    def take(self) -> list[Row]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows


class BoardPost:
    """Posts to a Board actor without waiting for it."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def __call__(self, row: Row) -> None:
        self._board.put.remote(row)


class BoardStop:
    """Asks a Board actor for the driver's wish; a board that is gone has none."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def __call__(self) -> bool:
        import ray

        try:
            return bool(ray.get(self._board.stopped.remote(), timeout=5))
        except ray.exceptions.RayError:
            return False
