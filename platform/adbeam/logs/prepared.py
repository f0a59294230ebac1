"""A prepared log as every later step opens it, and what makes an item of it a target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.logs.sources.base import CATALOGUE_FILE, Impressions
from adbeam.logs.trending import TrendTable
from adbeam.logs.values.counting import check_weights
from adbeam.logs.values.ecpm_rates import EcpmRates
from adbeam.logs.values.target_values import FOLDER as RATES
from adbeam.records import ACTIONS, SPLITS, Action
from adbeam.workdir import EVENTS, QUARANTINE, SEQUENCES

ACCOUNT = "account.json"
CONVERSION, CLICK = Action.CONVERSION.value, Action.CLICK.value


def strongest_action(folder: str | Path) -> str | None:
    """conversion where the training split of a prepared log has any, of ads or organic items, else click; None where it
    has neither.

    The account says it; a folder that an older version prepared is read through, as far as the first conversion.
    """
    account = Path(folder) / ACCOUNT
    stored = json.loads(account.read_text(encoding="utf-8")) if account.is_file() else {}
    seen = stored["training"].keys() if "training" in stored else _training_actions(Path(folder) / SEQUENCES)
    return next((action for action in (CONVERSION, CLICK) if action in seen), None)


def resolve_target(wanted: str, folder: str | Path) -> str:
    """The action that `training.target_action` means for a prepared log: `auto` is its `strongest_action`.

    Raises UserError where `auto` finds no log, or neither conversions nor clicks.
    """
    if wanted == "auto":
        check_target(wanted, folder)
        return strongest_action(folder) or CONVERSION
    return wanted


def check_target(wanted: str, folder: str | Path) -> None:
    """Raise UserError naming the setting where the training split of a prepared log has no such action."""
    artifacts.read_manifest(folder, verify=False)
    strongest = strongest_action(folder)
    if strongest == CONVERSION or (strongest == CLICK and wanted != CONVERSION):
        return
    if strongest == CLICK:
        holds, remedy = "clicks and no conversions", "set training.target_action to auto or click"
    else:
        holds, remedy = "neither conversions nor clicks", "map the log's words in logs.files.events.values.action"
    raise UserError(
        f"the training split of {folder} holds {holds}", field="training.target_action", value=wanted, remedy=remedy
    )


def _training_actions(sequences: Path) -> set[str]:
    """The actions of the training split, read no further than the first conversion."""
    seen: set[str] = set()
    for shard in sorted(sequences.glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(columns=["split", "action"]):
            split, action = (pc.list_flatten(batch[name]) for name in ("split", "action"))
            codes = pc.unique(action.filter(pc.equal(split, SPLITS.index("train")))).to_pylist()
            seen.update(ACTIONS[code] for code in codes)
            if CONVERSION in seen:
                return seen
    return seen


@dataclass(frozen=True)
class PreparedLog:
    """A published folder: catalogue, clean events, per-user sequences, quarantine and the account of all rows."""

    folder: Path
    manifest: dict[str, Any]
    account: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> Self:
        """Open and, unless told not to, check every file's hash; raises UserError naming the file that differs."""
        folder = Path(folder)
        manifest = artifacts.read_manifest(folder, verify=verify)
        account = json.loads((folder / ACCOUNT).read_text(encoding="utf-8"))
        return cls(folder, manifest, account)

    @property
    def target_action(self) -> str:
        """What makes an item of this log a target: `strongest_action` of its training split."""
        return strongest_action(self.folder) or CONVERSION

    @property
    def impressions(self) -> Impressions:
        """What its impressions are; rates are to be computed from `all` and `weighted` ones only.

        An account of an older version says nothing: Complete Journey's are sampled, those of files all.
        """
        if not self.account["actions"].get("impression"):
            return "none"
        older: Impressions = "sampled" if self.manifest.get("source") == "completejourney" else "all"
        said: Impressions = self.account.get("impressions", older)
        return said

    @property
    def impression_weight(self) -> str | None:
        """The column of `events()` that weighs impressions where they are `weighted`; null there counts as 1."""
        said: str | None = self.account.get("impression_weight")
        return said

    @property
    def value(self) -> str:
        """What its targets are worth by, as `logs.value` was: price_or_bid or ecpm."""
        return str(self.account.get("value", "price_or_bid"))

    def ecpm_rates(self) -> EcpmRates | None:
        """Rates and money that the targets' worth was made of; None where `value` is not ecpm."""
        return EcpmRates.read(self.folder / RATES) if self.value == "ecpm" else None

    def told(self) -> FeatureEncoder | None:
        """The declared features that a model of this log is told; None where it is told none."""
        return FeatureEncoder.read(self.folder)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the log, the catalogue or the settings they were prepared with change."""
        return str(self.manifest["fingerprint"])

    def catalogue(self) -> pa.Table:
        """All items by item id: CATALOGUE_SCHEMA, then feature columns."""
        return pq.read_table(self.folder / CATALOGUE_FILE)

    def sequences(self) -> list[Path]:
        """Parquet shards of SEQUENCE_SCHEMA, one row a user, each user in one shard."""
        return sorted((self.folder / SEQUENCES).glob("*.parquet"))

    def trends(self) -> TrendTable:
        """Which ads were converting most in the days before every hour of the log."""
        return TrendTable.read(self.folder)

    def events(self) -> list[Path]:
        """Parquet shards of the clean events by user and time: EVENT_SCHEMA, then feature columns."""
        return sorted((self.folder / EVENTS).glob("*.parquet"))

    def event_weights(self, shard: str, column: str | None) -> np.ndarray:
        """float64 [E], `column` of each event of the shard of that file name, in the order of its events; 1 where the
        log has no such column, or it says nothing."""
        file = pq.ParquetFile(self.folder / EVENTS / shard)
        if column is None or column not in file.schema_arrow.names:
            return np.ones(file.metadata.num_rows)
        weight_E: np.ndarray = pc.fill_null(file.read([column])[column], 1.0).to_numpy()
        return weight_E.astype(np.float64)

    def impression_weights(self, shard: str) -> np.ndarray:
        """`event_weights` of `impression_weight`: how many impressions each one of the shard stands for.

        Raises UserError where one is no number from 1 on.
        """
        weight_E = self.event_weights(shard, self.impression_weight)
        if self.impression_weight is not None:
            check_weights(pa.array(weight_E), self.impression_weight)
        return weight_E

    def quarantine(self) -> pa.Table:
        """The rows refused: `reason`, and `row` as JSON."""
        files = sorted((self.folder / QUARANTINE).glob("*.parquet"))
        empty = pa.table({"reason": pa.array([], pa.string()), "row": pa.array([], pa.string())})
        return pa.concat_tables([pq.read_table(file) for file in files]) if files else empty
