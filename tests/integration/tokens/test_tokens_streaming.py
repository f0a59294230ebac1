"""Encoding and Swing by Ray Data actors give what the job itself gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.records import CATALOGUE_SCHEMA
from adbeam.tokens.config import QuantizerConfig, TokensConfig
from adbeam.tokens.cooccurrence.directed import DirectedCounts, NeighbourRows, PairWeights
from adbeam.tokens.cooccurrence.directed_job import neighbour_table
from adbeam.tokens.cooccurrence.swing import user_items
from adbeam.tokens.cooccurrence.swing_job import swing_ranges
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans
from adbeam.tokens.streaming import assign_vectors, encoded_batches, sid_array, sid_matrix
from adbeam.tokens.tokenizer import Tokenizer


def test_a_pool_of_actors_encodes_the_catalogue_in_order(ray_session: None, tmp_path: Path) -> None:
    words = ("bread", "cheese", "coffee", "fruit", "soap", "wine")
    random = np.random.default_rng(0)
    rows = [
        {
            "item_id": f"ad{n}",
            "kind": "ad",
            "title": " ".join(random.choice(words, 3)),
            "status": "active",
            "price": 1.0 + n,
        }
        for n in range(5000)
    ]
    rows[7] |= {"title": "", "price": None}
    catalogue = pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA)
    pq.write_table(catalogue, tmp_path / "catalogue.parquet", row_group_size=1000)
    tokenizer = Tokenizer.build(TokensConfig(), (16, 8, 64), seed=0)
    tokenizer.fit(catalogue, None, seed=0)
    here = pa.concat_tables(encoded_batches(tmp_path / "catalogue.parquet", tokenizer, workers=0))
    there = pa.concat_tables(encoded_batches(tmp_path / "catalogue.parquet", tokenizer, workers=2))
    assert there["item_id"].to_pylist() == here["item_id"].to_pylist() == [row["item_id"] for row in rows]
    assert there["sid"].to_pylist() == here["sid"].to_pylist()
    assert [n for n, fine in enumerate(there["usable"].to_pylist()) if not fine] == [7]


def test_vectors_made_elsewhere_stream_from_parquet_to_parquet(ray_session: None, tmp_path: Path) -> None:
    x_NE = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
    hash_N = np.arange(4000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    quantizer = RQKMeans((32, 16, 8), QuantizerConfig(), seed=0)
    quantizer.fit(x_NE)
    (tmp_path / "vectors").mkdir()
    for part in range(4):
        rows = slice(part * 1000, part * 1000 + 1000)
        vector = pa.FixedSizeListArray.from_arrays(pa.array(x_NE[rows].ravel()), 8)
        columns = {"item_id": [f"ad{n}" for n in range(4000)[rows]], "vector": vector, "hash": pa.array(hash_N[rows])}
        pq.write_table(pa.table(columns), tmp_path / "vectors" / f"{part}.parquet")
    assign_vectors(tmp_path / "vectors", tmp_path / "sids", quantizer, workers=2)
    written = pq.read_table(tmp_path / "sids").sort_by("hash")
    expected = pa.table({"hash": hash_N, "sid": sid_array(quantizer.encode(x_NE, hash_N))}).sort_by("hash")
    np.testing.assert_array_equal(sid_matrix(written["sid"]), sid_matrix(expected["sid"]))
    assert written.column_names == ["item_id", "hash", "sid"]


def test_swing_by_actors_equals_swing_here(ray_session: None) -> None:
    random = np.random.default_rng(0)
    chosen_UN = user_items(np.repeat(np.arange(100), 10), random.integers(0, 60, 1000), 60, max_items=10)
    here, there = (
        list(swing_ranges(chosen_UN, alpha=1.0, neighbours=5, items_per_range=16, workers=workers))
        for workers in (0, 2)
    )
    assert [part.first for part in there] == [part.first for part in here] == [0, 16, 32, 48]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.item_RK, other.item_RK)
        np.testing.assert_allclose(one.score_RK, other.score_RK)


def test_directed_neighbours_by_actors_equal_those_here(ray_session: None) -> None:
    random = np.random.default_rng(0)
    counts = DirectedCounts(
        np.repeat(np.arange(100), 10), random.integers(0, 60, 1000), 60, PairWeights(np.ones(3), 0.1)
    )
    here, there = (neighbour_table(NeighbourRows(counts, None, 5), 16, workers) for workers in (0, 2))
    assert here.shape == there.shape == (60, 60)
    np.testing.assert_array_equal(here.toarray(), there.toarray())
