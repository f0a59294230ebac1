"""The table of users of a log: read, checked row by row, one row a user and moment, written for the shards to look up.

Rows that say the same twice count once. Of two rows of one user and moment that differ none can be believed: both go to
quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.identity.people import USER_ID_READ
from adbeam.logs.config import TableConfig
from adbeam.logs.ids.columns import known_users, nobody_set
from adbeam.logs.reading import list_table, read_chunks
from adbeam.logs.times.moments import to_milliseconds
from adbeam.logs.told.columns import kinds_of, told_values, with_columns
from adbeam.logs.told.profiles import ALWAYS, USERS_FILE
from adbeam.logs.validate import (
    QUARANTINE_SCHEMA,
    Reasons,
    check_text,
    malformed_rows,
    quarantine_rows,
    whole_column,
    with_encoding,
)
from adbeam.targeting.features import Features
from adbeam.workdir import QUARANTINE

FIELD = "logs.files.users"
QUARANTINE_FILE = f"{QUARANTINE}/users.parquet"
TWICE = "the user has several rows of one valid_from that differ"
_KEYS = ("user_id", "valid_from")


@dataclass(frozen=True)
class UsersTable:
    """What `logs.files.users` names."""

    config: TableConfig
    features: Features
    nobody_words: Collection[str]
    batch_rows: int
    max_quarantined: float

    @classmethod
    def of(
        cls, config: TableConfig, features: Features | None, nobody: Collection[str], batch_rows: int, most_bad: float
    ) -> UsersTable:
        """Raises UserError where no feature of users is told to the model, or a column is already something else."""
        if not kinds_of(features, "user"):
            raise UserError(
                "no feature of source: user has model: true",
                field=FIELD,
                remedy="declare one under features, or leave the table out",
            )
        return cls(with_columns(config, features, "user", _KEYS), features or {}, nobody, batch_rows, most_bad)

    def files(self) -> list[Path]:
        """The files of the table, each opened and its columns checked."""
        return list(list_table(self.config, FIELD, ("user_id",), ("valid_from",)).files)

    def stage(self, folder: Path) -> dict[str, int]:
        """Write the users by id and moment, and what was refused; returns counts for the account.

        Raises UserError where more than `max_quarantined` of the rows are bad.
        """
        clean, bad = self._read()
        distinct = clean.group_by(clean.column_names, use_threads=False).aggregate([])
        kept, repeated = _one_row_a_moment(distinct)
        bad = pa.concat_tables([bad, repeated])
        if bad.num_rows:
            pq.write_table(bad, folder / QUARANTINE_FILE)
        self._refuse_bad(bad, kept.num_rows + bad.num_rows)
        pq.write_table(kept.sort_by([(key, "ascending") for key in _KEYS]), folder / USERS_FILE, compression="zstd")
        counts = {
            "rows of users": clean.num_rows + bad.num_rows - repeated.num_rows,
            "rows of users kept": kept.num_rows,
            "rows of users that stand twice": clean.num_rows - distinct.num_rows,
        }
        reasons = Counter(bad["reason"].to_pylist())
        return {**counts, **{f"rows of users quarantined: {reason}": count for reason, count in reasons.items()}}

    def _read(self) -> tuple[pa.Table, pa.Table]:
        clean, bad = [], [QUARANTINE_SCHEMA.empty_table()]
        for fragment in list_table(self.config, FIELD, ("user_id",), ("valid_from",)).fragments:
            for chunk in read_chunks(fragment, self.config, self.batch_rows, self.nobody_words):
                table, reasons = self._judged(chunk.table)
                clean.append(table.filter(pa.array(reasons.clean)))
                bad += [quarantine_rows(chunk.table, reasons), malformed_rows(chunk.malformed)]
        if not clean:
            raise UserError("the table of users has no row", field=f"{FIELD}.path", remedy="fill it, or leave it out")
        return pa.concat_tables(clean), pa.concat_tables(bad)

    def _judged(self, raw: pa.Table) -> tuple[pa.Table, Reasons]:
        """All rows in the types of the table, and why some are not to be believed."""
        reasons = Reasons(raw.num_rows)
        users = check_text(whole_column(raw, "user_id"), "user_id", USER_ID_READ, reasons)
        users, problems = known_users(users, nobody_set(self.nobody_words))
        unit, zone = self.config.timestamp_unit, self.config.timezone
        moments, bad = to_milliseconds(whole_column(raw, "valid_from"), "valid_from", unit, zone)
        columns = {"user_id": users, "valid_from": pc.fill_null(moments.cast(pa.int64()), ALWAYS)}
        problems = [*problems, (bad, "valid_from is not a time")]
        for name, feature in kinds_of(self.features, "user").items():
            columns[name], found = told_values(whole_column(raw, name), name, feature)
            columns[name] = columns[name].cast(pa.float64() if feature.kind == "number" else pa.string(), safe=False)
            problems += found
        reasons.mark(users.is_null(), "user_id is empty")
        for where, reason in problems:
            reasons.mark(where, reason)
        return pa.table(columns), reasons

    def _refuse_bad(self, bad: pa.Table, rows: int) -> None:
        if bad.num_rows <= self.max_quarantined * rows and bad.num_rows < max(rows, 1):
            return
        reasons = Counter(bad["reason"].to_pylist())
        most = ", ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(5))
        raise UserError(
            f"{bad.num_rows:,} of {rows:,} rows of users are bad ({most})",
            field="logs.max_quarantined",
            value=self.max_quarantined,
            remedy=with_encoding(f"mend {FIELD} or raise the limit", reasons),
        )


def _one_row_a_moment(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(users and moments that have one row, quarantine of the others)."""
    key = pc.binary_join_element_wise(rows["user_id"], rows["valid_from"].cast(pa.string()), "\x00").combine_chunks()
    number_n = key.dictionary_encode().indices.to_numpy()
    repeated = np.bincount(number_n, minlength=1)[number_n] > 1
    reasons = Reasons(rows.num_rows)
    reasons.mark(repeated, TWICE)
    return rows.filter(pa.array(~repeated)), quarantine_rows(rows, reasons)
