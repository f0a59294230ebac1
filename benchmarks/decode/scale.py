"""Decoding at scale: a million ads, 25 million ads, filters, the paper's size.

Shapes: B requests, N ads, T levels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from statistics import median
from typing import Any

import numpy as np
import torch

from adbeam.config import Config
from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.decoding.masks.constraint import BatchConstraint
from benchmarks.decode.setup import (
    BY_LEVEL,
    FULL,
    Clock,
    Stopwatch,
    decoding,
    full_context,
    interleaved,
    model_of,
    random_sids,
    small,
)

CONSTRAINT = ("__init__", "first", "next", "_open_among", "leaves_below")
"""What the constraint adds to a search: all of BatchConstraint but the top-k over all candidates."""
PAPER_CODEBOOKS = (16384, 4096, 1024)


def constraint_share(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Time inside the constraint (mask, children, their logits) as a share of decode time, at a million ads."""
    config = small()
    trie = Trie.build(random_sids(1_000_000, config.codebooks), config.codebooks)
    figures = {"bytes_per_ad_1m": trie.bytes / 1_000_000}
    decoder = Decoder(model_of(config), trie)
    for batch in (1, 8):
        figures[f"constraint_share_1m_b{batch}"] = max(
            _share(decoder, batch, w, None, repeats)[0] for w in (FULL, BY_LEVEL)
        )
    figures["constraint_share_1m"] = figures["constraint_share_1m_b8"]
    started = Clock.read()
    for item in range(1000):
        trie.insert(1_000_000 + item, random_sids(1, config.codebooks, seed=item)[0])
        trie.remove(item)
    trie.apply_pending()
    figures["insert_and_remove_us"] = (Clock.read() - started) * 1000
    return figures, {}


def filters(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Filters that block 1, 50 and 99 % of a million ads: every request with a list or mask of its own that the engine
    has never seen; and masks on top of a thousand updates."""
    config = small()
    table: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    trie = Trie.build(random_sids(1_000_000, config.codebooks), config.codebooks)
    decoder = Decoder(model_of(config), trie)
    generator = np.random.default_rng(0)
    for updated in (False, True):
        if updated:
            for item in range(1000):
                trie.insert(1_000_000 + item, random_sids(1, config.codebooks, seed=item)[0])
                trie.remove(item)
        for blocked in (0.01, 0.5, 0.99):
            masks = [generator.random(1_000_000 + 1000 * updated) >= blocked for _ in range(24)]
            forms = {"mask": [ItemFilter(allow=mask) for mask in masks]}
            if blocked == 0.01:
                forms["list"] = [ItemFilter(deny=np.flatnonzero(~mask)) for mask in masks]
            for form, given in forms.items():
                for batch, widths in itertools.product((1, 8), (FULL, BY_LEVEL)):
                    share, sizes = _share(decoder, batch, widths, given, repeats)
                    row = {"blocked": blocked, "form": form, "batch": batch, "widths": widths, "updated": updated}
                    table.append(row | {"share": share, "ads_returned": min(sizes), "asked": widths[-1]})
    for line in table:
        name = f"filter_share_{'list' if line['form'] == 'list' else format(100 * line['blocked'], 'g')}"
        name += ("" if line["batch"] == 8 else "_b1") + ("" if line["widths"] == FULL else "_by_level")
        figures[name] = max(line["share"], figures.get(name, 0.0))
    figures["filter_ads_missing"] = sum(line["asked"] - line["ads_returned"] for line in table)
    return figures, {"filters": table}


def _share(
    decoder: Decoder, batch: int, widths: tuple[int, ...], given: list[ItemFilter] | None, repeats: int
) -> tuple[float, list[int]]:
    """(median of constraint seconds / decode seconds, ads returned a request); each decode takes the next filters."""
    context = full_context(decoder.config, batch)
    constraint_ = Stopwatch(BatchConstraint, *CONSTRAINT)
    shares, sizes = [], []
    decoder.decode(context, [widths] * batch)
    with constraint_:
        for turn in range(repeats):
            filters = given and [given[(turn * batch + b) % len(given)] for b in range(batch)]
            started, before = Clock.read(), constraint_.seconds
            results = decoder.decode(context, [widths] * batch, filters)
            shares.append((constraint_.seconds - before) / (Clock.read() - started))
            sizes += [result.size for result in results]
    return median(shares), sizes


def paper_size(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """One request at d 1024, L 9, K 6, 16384/4096/1024 codes, S 512, beams 128/256/512, a million ads."""
    return _apart("paper")


def trie_25m(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """25 million ads in the paper's code space: build, memory, one search with a small model."""
    return _apart("trie_25m")


def _apart(name: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Run one job in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.decode_scale", name]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.strip().splitlines()[-1]), {}


def _peak_gib() -> float:
    """Peak resident memory of this process (ru_maxrss would begin with the parent's)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 2**20 for line in status if line.startswith("VmHWM"))


def _paper() -> dict[str, float]:
    config = Config(size="paper").model.model_copy(update={"dropout": 0.0})
    trie = Trie.build(random_sids(1_000_000, config.codebooks), config.codebooks)
    decoder = Decoder(model_of(config), trie)
    seconds = interleaved({"one": decoding(decoder, 1, (128, 256, 512))}, 3)["one"]
    return {"paper_size_ms": seconds * 1000, "paper_size_peak_gib": _peak_gib()}


def _trie_25m() -> dict[str, float]:
    sids_NT = random_sids(25_000_000, PAPER_CODEBOOKS)
    started = Clock.read()
    trie = Trie.build(sids_NT, PAPER_CODEBOOKS)
    built = Clock.read() - started
    figures = {
        "trie_25m_build_seconds": built,
        "trie_25m_peak_gib": _peak_gib(),
        "trie_25m_bytes_per_ad": trie.bytes / 25e6,
    }
    config = small().model_copy(update={"codebooks": PAPER_CODEBOOKS, "width": 64})
    decoder = Decoder(model_of(config), trie)
    constraint_ = Stopwatch(BatchConstraint, *CONSTRAINT)
    decoder.decode(full_context(config, 1), [(128, 256, 512)])
    with constraint_:
        started = Clock.read()
        (result,) = decoder.decode(full_context(config, 1), [(128, 256, 512)])
        whole = Clock.read() - started
    assert result.size >= 256 and all(tuple(sid) in trie for sid in result.sids_nT.tolist())
    return figures | {"trie_25m_search_ms": whole * 1000, "trie_25m_constraint_ms": constraint_.seconds * 1000}


def main() -> None:
    """Child process: run one job; print its figures as JSON."""
    jobs = {"paper": _paper, "trie_25m": _trie_25m}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", choices=sorted(jobs))
    torch.set_num_threads(1)
    print(json.dumps(jobs[parser.parse_args().job]()))
