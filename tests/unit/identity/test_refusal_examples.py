"""What a refusal shows of a log: both sides of a failed join, and nobody's id."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.ids.examples import without_people
from adbeam.logs.pipeline import run


def test_a_join_that_finds_nothing_names_ids_of_both_sides_and_no_user(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path / "sample")
    items = pq.read_table(sample.catalogue)
    ids = [f"AD-{name}" for name in items["item_id"].to_pylist()]
    pq.write_table(
        items.set_column(items.schema.get_field_index("item_id"), "item_id", pa.array(ids)), sample.catalogue
    )
    with pytest.raises(UserError, match="item not in catalogue") as refused:
        run(SimpleNamespace(work_dir=tmp_path / "run", logs=LogsConfig.parse(sample.settings)), in_process=True)
    said, events = str(refused.value), pq.read_table(sample.events)
    log_side, catalogue_side = said.split("the log has items such as ")[1].split(", the catalogue such as ")
    assert log_side.count("'") == 4 and "AD-" not in log_side and catalogue_side.startswith("'AD-")
    assert "user_id" not in said and not any(repr(user)[1:-1] in said for user in set(events["user_id"].to_pylist()))


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ('{"user_id": "u1", "ip": "10.0.0.1", "action": "x", "request_id": "u1@5"}', '{"action": "x"}'),
        ("u1,broken", "a line that is no row"),
        ("[1]", "a line that is no row"),
        ("", ""),
    ],
)
def test_a_row_is_shown_without_what_names_people(row: str, shown: str) -> None:
    assert without_people(row) == shown
