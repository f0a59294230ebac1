"""`tokenize` end to end on a small catalogue: what it publishes, what it refuses, what it sets aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam import artifacts
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.records import ACTIONS, CATALOGUE_SCHEMA, SEQUENCE_SCHEMA
from adbeam.tokens.embedders.attributes import AttributeEmbedder
from adbeam.tokens.embedders.behaviour import behaviour_vectors, read_interactions
from adbeam.tokens.pipeline import Tokens, tokenize

GROUPS = ("bread", "cheese", "coffee", "fruit", "soap", "wine")
WORDS = ("small", "large", "dark", "mild", "fresh", "old", "red", "white", "fine", "plain")


def items(number: int = 300) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {
            "item_id": f"ad{n}",
            "kind": "ad" if n % 3 else "organic",
            "title": f"{GROUPS[n % 6]} {' '.join(random.choice(WORDS, 3))}",
            "category": GROUPS[n % 6],
            "brand": f"brand{n % 7}",
            "advertiser": f"advertiser{n % 11}",
            "price": float(np.exp(random.normal() + n % 6)),
            "ecpm": 1.0,
            "status": "active",
        }
        for n in range(number)
    ]


def sequences(users: int = 60) -> list[dict[str, Any]]:
    """Each user buys from one group; the last event is a test event of another group."""
    random, rows = np.random.default_rng(1), []
    for user in range(users):
        bought = [f"ad{6 * random.integers(0, 50) + user % 6}" for _ in range(12)] + [f"ad{(user + 1) % 6}"]
        rows.append(
            {
                "user_id": f"u{user}",
                "split": [0] * 12 + [2],
                "request_id": [f"u{user}r{n // 3}" for n in range(13)],
                "timestamp": list(range(13)),
                "item_id": bought,
                "item_kind": [0] * 13,
                "scene": ["s"] * 13,
                "action": [ACTIONS.index("conversion")] * 13,
                "value": [1.0] * 13,
            }
        )
    return rows


def prepare(folder: Path, catalogue: list[dict[str, Any]], *, with_sequences: bool = True) -> None:
    with artifacts.publish(folder / "prepared", {}) as staging:
        pq.write_table(pa.Table.from_pylist(catalogue, schema=CATALOGUE_SCHEMA), staging / "catalogue.parquet")
        if with_sequences:
            (staging / "sequences").mkdir()
            table = pa.Table.from_pylist(sequences(), schema=SEQUENCE_SCHEMA)
            pq.write_table(table.slice(0, 30), staging / "sequences" / "0.parquet")
            pq.write_table(table.slice(30), staging / "sequences" / "1.parquet")


def configure(folder: Path, **tokens: Any) -> Config:
    model = {"codebooks": (16, 8, 32)}
    return Config.parse({"work_dir": folder, "model": model, "tokens": tokens})


def test_publishes_sids_that_the_restored_tokenizer_gives_again(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    tokens = tokenize(configure(tmp_path, embedder={"behaviour_dimensions": 0}))
    assert tokens.table.column_names == ["item_id", "sid", "kind"] and tokens.table.num_rows == 300
    assert tokens.codebooks == (16, 8, 32)
    catalogue = pa.Table.from_pylist(items(), schema=CATALOGUE_SCHEMA)
    again_NT = tokens.tokenizer().encode(catalogue).sids_NT
    assert again_NT.tolist() == tokens.table["sid"].to_pylist()
    assert {"sids.parquet", "items_per_sid.png", "report.json", "quarantine.parquet"} <= {
        path.name for path in tokens.folder.iterdir()
    }
    assert tokens.report["catalogue"]["kinds"] == {"ad": 200, "organic": 100}


def test_equal_things_share_prefixes(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    tokens = tokenize(configure(tmp_path))
    first_N = np.array(tokens.table["sid"].to_pylist())[:, 0]
    purity = sum(np.bincount(np.arange(300)[first_N == code] % 6).max() for code in set(first_N.tolist())) / 300
    assert purity > 0.75  # 16 balanced cells cannot follow 6 groups exactly; by chance it is below 0.3


def test_a_second_run_changes_nothing_and_a_new_setting_does(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    first = tokenize(configure(tmp_path)).folder.stat().st_ino
    assert tokenize(configure(tmp_path)).folder.stat().st_ino == first
    again = tokenize(configure(tmp_path, quantizer={"business_fields": ["item_id"]}))
    assert again.folder.stat().st_ino != first


def test_rows_that_cannot_be_used_are_set_aside_with_a_reason(tmp_path: Path) -> None:
    silent = {"title": "", "category": None, "brand": None, "advertiser": None, "price": None}
    catalogue = [*items(), {**items()[5]}, {**items()[0], **silent, "item_id": "silent"}, {**items()[0], "item_id": ""}]
    prepare(tmp_path, catalogue)
    tokens = tokenize(configure(tmp_path))
    reasons = {"item_id twice": 1, "embedding zero or not finite": 1, "item_id missing": 1}
    assert tokens.report["catalogue"] == {
        "rows": 303, "kept": 300, "quarantined": 3, "reasons": reasons, "kinds": {"ad": 200, "organic": 100},
    }  # fmt: skip
    quarantined = pq.read_table(tokens.folder / "quarantine.parquet").to_pylist()
    assert {"item_id": "silent", "reason": "embedding zero or not finite"} in quarantined
    assert "silent" not in tokens.table["item_id"].to_pylist()


def test_a_failed_gate_is_named_and_nothing_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path, items())
    gates = {"max_collision": 0.0, "max_items_per_sid": 1.0}
    with pytest.raises(UserError, match=r"not published: max_collision: 0\.\d+, the gate is 0 .*max_items_per_sid"):
        tokenize(configure(tmp_path, gates=gates))
    assert not (tmp_path / "tokens").exists()
    shown = capsys.readouterr().out  # the figures are shown all the same
    assert "tokenized 300 of 300 items" in shown and "Col" in shown and "largest cell / mean" in shown


def test_an_embedder_that_gives_nan_costs_those_items_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = AttributeEmbedder.embed

    def faulty(self: AttributeEmbedder, table: pa.Table) -> np.ndarray:
        x_NE = embed(self, table)
        bad_N = np.isin(table["item_id"].to_pylist(), ["ad3", "ad4"])
        x_NE[bad_N] = np.array([[np.nan], [np.inf]])[: bad_N.sum()]
        return x_NE

    monkeypatch.setattr(AttributeEmbedder, "embed", faulty)
    prepare(tmp_path, items())
    tokens = tokenize(configure(tmp_path))
    assert tokens.report["catalogue"]["reasons"] == {"embedding zero or not finite": 2}
    assert tokens.table.num_rows == 298 and not {"ad3", "ad4"} & set(tokens.table["item_id"].to_pylist())


def test_old_tokens_stay_when_new_ones_fail_the_gate(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    before = tokenize(configure(tmp_path)).table
    with pytest.raises(UserError, match="max_collision"):
        tokenize(configure(tmp_path, gates={"max_collision": 0.0}))
    assert Tokens.load(tmp_path / "tokens").table.equals(before)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    folder = tokenize(configure(tmp_path)).folder
    (folder / "report.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"report\.json differs from its manifest"):
        Tokens.load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"quantizer": {"business_fields": ["item_id", "account"]}},
            "business_fields: the catalogue has no column 'acc",
        ),
        ({"embedder": {"text_fields": ["headline"]}}, "text_fields: the catalogue has no column 'headline'"),
        ({"quantizer": {"shrink_codebooks": False}}, "level 0 has 4096 codes but only"),
        ({"embedder": {"kind": "language", "model_dir": "nowhere"}}, "not a Hugging Face model folder"),
    ],
)
def test_settings_that_do_not_fit_the_catalogue_are_named(tmp_path: Path, settings: dict, message: str) -> None:
    prepare(tmp_path, items())
    config = Config.parse({"work_dir": tmp_path, "model": {"codebooks": (4096, 8, 32)}, "tokens": settings})
    with pytest.raises(UserError, match=message):
        tokenize(config)


def test_a_missing_preparation_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*prepared; run adbeam prepare"):
        tokenize(configure(tmp_path))


def test_behaviour_reads_training_events_only_and_tells_groups_apart(tmp_path: Path) -> None:
    prepare(tmp_path, items())
    events = read_interactions(tmp_path / "prepared" / "sequences")
    assert len(events.item_R) == 60 * 12  # not the 60 test events
    assert events.events_N.sum() == 720 and len(set(events.request_R.tolist())) == 60 * 4
    vectors_NF = behaviour_vectors(events, 8, seed=0)
    group_N = np.array([int(item_id[2:]) % 6 for item_id in events.item_ids])
    similar_NN = vectors_NF @ vectors_NF.T
    same_NN = group_N[:, None] == group_N
    assert similar_NN[same_NN].mean() > similar_NN[~same_NN].mean() + 0.5
