"""The layout of a work_dir: what each step writes and the others read. No other module spells these names.

docs/design.md ("Folders between the steps") says what lies in each folder; artifacts.py how a folder is written whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adbeam.errors import UserError
from adbeam.settings import local_path

PREPARED, TOKENS, TRAINING, REWARD, LISTS = "prepared", "tokens", "training", "reward", "lists"
FOUNDATION, REPRESENTATIONS = "foundation", "representations"
WRITERS = {
    PREPARED: "adbeam prepare",
    TOKENS: "adbeam tokenize",
    TRAINING: "adbeam train",
    REWARD: "adbeam reward",
    LISTS: "adbeam generate-lists",
    FOUNDATION: "adbeam foundation",
    REPRESENTATIONS: "adbeam represent",
}
"""The command that writes a folder: what is told to whoever finds it missing or altered."""
TRAINING_RUNS, BUNDLES = "training_runs", "bundles"
LEDGER = "ledger.sqlite"
SEQUENCES, EVENTS, QUARANTINE = "sequences", "events", "quarantine"
"""Folders of shards in a prepared log; a local endpoint logs its events under the same name."""
SIDS = "sids.parquet"


@dataclass(frozen=True)
class WorkDir:
    """The folders of one work_dir, whether they are there yet or not."""

    root: Path

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """The layout under `path`; raises UserError for a URL."""
        try:
            return cls(Path(local_path(str(path))))
        except ValueError as error:
            raise UserError(str(error), field="work_dir", value=str(path)) from None

    def resolve(self) -> Self:
        """The same with an absolute root, as Ray tasks and workers in other folders need it."""
        return type(self)(self.root.resolve())

    @property
    def log(self) -> Path:
        """Log and catalogue of the simulated market (adbeam market simulate)."""
        return self.root / "log"

    @property
    def prepared(self) -> Path:
        """Clean events, catalogue, sequences, quarantine and account (adbeam prepare)."""
        return self.root / PREPARED

    @property
    def sequences(self) -> Path:
        """Shards of the users' sequences."""
        return self.prepared / SEQUENCES

    @property
    def tokens(self) -> Path:
        """Semantic IDs, codebooks and report (adbeam tokenize)."""
        return self.root / TOKENS

    @property
    def sids(self) -> Path:
        """The semantic ID of every item."""
        return self.tokens / SIDS

    @property
    def training_rows(self) -> Path:
        """Fixed-size training rows (adbeam train)."""
        return self.root / "training_rows"

    @property
    def list_rows(self) -> Path:
        """Candidate lists as training rows (adbeam train)."""
        return self.root / "list_rows"

    @property
    def training_runs(self) -> Path:
        """Checkpoints and records of the runs (adbeam train)."""
        return self.root / TRAINING_RUNS

    @property
    def training(self) -> Path:
        """The weights of the run that finished last (adbeam train)."""
        return self.root / TRAINING

    @property
    def bundles(self) -> Path:
        """Bundles and the CURRENT pointer (adbeam export, adbeam online)."""
        return self.root / BUNDLES

    @property
    def foundation(self) -> Path:
        """The foundation and its report by scene (adbeam foundation)."""
        return self.root / FOUNDATION

    @property
    def foundation_rows(self) -> Path:
        """Users and items that met, as rows (adbeam foundation)."""
        return self.root / "foundation_rows"

    @property
    def foundation_runs(self) -> Path:
        """Checkpoints and records of the foundation's runs (adbeam foundation)."""
        return self.root / "foundation_runs"

    @property
    def representations(self) -> Path:
        """CR of users and items by moment, IR of items (adbeam represent)."""
        return self.root / REPRESENTATIONS

    @property
    def reward(self) -> Path:
        """The reward model (adbeam reward)."""
        return self.root / REWARD

    @property
    def lists(self) -> Path:
        """Candidate lists with their rewards (adbeam generate-lists)."""
        return self.root / LISTS

    @property
    def online(self) -> Path:
        """The ledger and what each round of the online loop made (adbeam online)."""
        return self.root / "online"

    @property
    def ledger(self) -> Path:
        """Which log files the online loop has read."""
        return self.online / LEDGER

    @property
    def evaluation(self) -> Path:
        """A folder a split with the table (adbeam evaluate)."""
        return self.root / "evaluation"

    @property
    def serving(self) -> Path:
        """What a local endpoint keeps (adbeam serve)."""
        return self.root / "serving"

    @property
    def histories(self) -> Path:
        """The SQLite history store of a local endpoint."""
        return self.serving / "histories.sqlite"

    @property
    def ad_updates(self) -> Path:
        """The SQLite update log of a local endpoint."""
        return self.serving / "ads.sqlite"

    @property
    def events(self) -> Path:
        """The event log of a local endpoint."""
        return self.serving / EVENTS

    @property
    def requests(self) -> Path:
        """The request log of a local endpoint."""
        return self.serving / "requests"
