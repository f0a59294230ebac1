"""What is measured on a device, part by part: agreement, decode speed, LazyAR and Hugging Face beside it.

Shapes: B requests.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adbeam.config import Config
from adbeam.decoding import Decoder, Trie
from adbeam.decoding.config import OrderBy
from adbeam.decoding.engines.precision import Precision
from adbeam.model.config import ModelConfig
from benchmarks.decode.baselines import HuggingFace, products
from benchmarks.decode.setup import full_context, model_of, random_sids

LIMIT_MS = 100.0


@dataclass
class Part:
    """What a part finds, kept in a file whenever something is added."""

    path: Path
    device: str
    tiny: bool
    found: dict[str, Any] = field(default_factory=lambda: {"figures": {}, "rows": []})

    def keep(self, row: dict[str, Any] | None = None, **figures: float) -> None:
        """Add a row and figures, whole or not at all."""
        self.found["rows"] += [row] if row else []
        self.found["figures"] |= figures
        self.path.with_suffix(".new").write_text(json.dumps(self.found), encoding="utf-8")
        os.replace(self.path.with_suffix(".new"), self.path)

    @property
    def graphs(self) -> bool:
        """Whether CUDA graphs can be recorded here."""
        return self.device.startswith("cuda")

    def shape(self, size: str, lazy: bool = True) -> ModelConfig:
        """The model of a size; in a rehearsal always `tiny` with 3 x 64 codes."""
        model = Config(size="tiny" if self.tiny else size).model
        small: dict[str, Any] = {"codebooks": (64, 64, 64)} if self.tiny else {}
        return model.model_copy(update=small | {"dropout": 0.0} | ({} if lazy else {"lazy_layers": 0}))

    def trie(self, config: ModelConfig) -> Trie:
        """A random catalogue."""
        return Trie.build(random_sids(2_000 if self.tiny else 1_000_000, config.codebooks), config.codebooks)

    def decoder(
        self, config: ModelConfig, trie: Trie, precision: Precision, graphs: bool, ecpm_step: bool = True
    ) -> Decoder:
        """One over random weights on the device."""
        order: OrderBy = "expected_value" if ecpm_step else "log_probability"
        model = model_of(config).to(self.device)
        return Decoder(model, trie, order_by=order, precision=precision, ecpm_step=ecpm_step, cuda_graphs=graphs)

    def job(self, decoder: Decoder, batch: int, widths: tuple[int, ...]) -> Callable[[], Any]:
        """Decode `batch` full contexts."""
        context = full_context(decoder.config, batch).to(self.device)
        return lambda: decoder.decode(context, [widths] * batch)

    def times_ms(self, job: Callable[[], Any], seconds: float = 3.0) -> list[float]:
        """Wall clock of runs in a row, after three that warm up and record; at least five."""
        wait = torch.cuda.synchronize if self.graphs else lambda: None
        for _ in range(3):
            job()
        wait()
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < 5 or time.perf_counter() - began < (0.05 if self.tiny else seconds):
            started = time.perf_counter()
            job()
            wait()
            taken.append(1000 * (time.perf_counter() - started))
        return taken


def run(name: str, part: Part) -> None:
    """Run one part. Raises what PyTorch raises; what was found before stays."""
    torch.manual_seed(0)
    device = torch.cuda.get_device_name(part.device) if part.graphs else "cpu"
    part.found |= {"card": device, "torch": torch.__version__}
    {"exact": exact, "decode": decode, "rivals": rivals}[name](part)


def widths_of(part: Part, wide: int) -> tuple[int, int, int]:
    """The same width at every level."""
    return (8, 8, 8) if part.tiny else (wide, wide, wide)


def exact(part: Part) -> None:
    """CUDA graphs and bfloat16 against float32 without graphs: share of the same ads among the first ten. The weights
    are random and scores lie close together: trained models agree more."""
    config, batch, widths = part.shape("small"), 8, widths_of(part, 128)
    trie = part.trie(config)
    expected = part.job(part.decoder(config, trie, "float32", False), batch, widths)()
    kinds: dict[str, tuple[Precision, bool]] = {"graphs": ("float32", part.graphs), "bf16": ("bfloat16", False),
                                                "bf16_graphs": ("bfloat16", part.graphs)}  # fmt: skip
    for name, (precision, graphs) in kinds.items():
        job = part.job(part.decoder(config, trie, precision, graphs), batch, widths)
        for _ in range(3):  # seen, recorded, replayed
            found = job()
        shared = [len(_first(one) & _first(two)) / len(_first(two)) for one, two in zip(found, expected, strict=True)]
        legal = all(tuple(sid) in trie for one in found for sid in one.sids_nT.tolist())
        row: dict[str, Any] = {
            "row": name,
            "recorded": graphs,
            "top10_agreement": float(np.mean(shared)),
            "all_legal": legal,
        }
        part.keep(row, **{f"gpu_top10_agreement_{name}": row["top10_agreement"]})


def _first(result: Any) -> set[tuple[int, ...]]:
    return {tuple(sid) for sid in result.sids_nT[:10].tolist()}


def decode(part: Part) -> None:
    """bfloat16 with graphs, at small and paper size: requests/s, p99, and the share of the device's matrix rate."""
    rate, batches = matrix_tflops(part), (1, 4) if part.tiny else (1, 8, 64)
    part.keep({"row": "matrix_rate", "tflops": rate})
    for size in ("small", "paper"):
        config = part.shape(size)
        decoder = part.decoder(config, part.trie(config), "bfloat16", part.graphs)
        for widths in (widths_of(part, 128), (8, 8, 16) if part.tiny else (128, 256, 512)):
            for batch in batches:
                times = part.times_ms(part.job(decoder, batch, widths))
                middle, p99 = float(np.median(times)), float(np.percentile(times, 99))
                share = products(config, batch, widths)[1] / middle / rate
                row = {"row": size, "widths": widths, "batch": batch, "rps": 1000 * batch / middle, "p50_ms": middle,
                       "p99_ms": p99, "matrix_share": share}  # fmt: skip
                part.keep(row)
                if size == "paper" and p99 <= LIMIT_MS:
                    best = part.found["figures"].get("gpu_rps_100ms_paper", 0.0)
                    part.keep(gpu_rps_100ms_paper=max(best, row["rps"]))
        shares = [row["matrix_share"] for row in part.found["rows"] if row.get("batch") == batches[-1]]
        part.keep(gpu_matrix_share_b64=max(shares))
        part.found[f"kernels_{size}"] = kernels(part, part.job(decoder, batch, widths))
        part.keep()


def matrix_tflops(part: Part) -> float:
    """What the device reaches in one large bfloat16 product."""
    n = 256 if part.tiny else 8192
    one, two = (torch.randn(n, n, device=part.device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * n**3 / float(np.median(part.times_ms(lambda: one @ two, 1.0))) / 1e9


def kernels(part: Part, job: Callable[[], Any], most: int = 12) -> list[dict[str, Any]]:
    """The kernels (on a CPU: operators) that one decode spends most time in."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if part.graphs else [])]) as seen:
        job()
    of = "self_device_time_total" if part.graphs else "self_cpu_time_total"
    rows = sorted(seen.key_averages(), key=lambda row: -getattr(row, of))
    return [{"name": row.key[:80], "calls": row.count, "ms": getattr(row, of) / 1000} for row in rows[:most]]


def rivals(part: Part) -> None:
    """LazyAR over the plain decoder, and over Hugging Face generate, all in float32, over the same catalogue: a
    dictionary says what generate may choose."""
    config, widths, batch = part.shape("small"), widths_of(part, 128), 2 if part.tiny else 8
    trie = part.trie(config)
    medians: dict[str, float] = {}
    for name, lazy in (("lazyar", True), ("plain", False)):
        decoder = part.decoder(part.shape("small", lazy), trie, "float32", part.graphs, ecpm_step=False)
        medians[name] = float(np.median(part.times_ms(part.job(decoder, batch, widths))))
        part.keep({"row": name, "batch": batch, "ms": medians[name]})
    part.keep(gpu_lazyar_over_plain=medians["plain"] / medians["lazyar"])
    theirs = HuggingFace(config, trie.sids(), widths[-1], part.device)
    medians["hf"] = float(np.median(part.times_ms(theirs.job(batch, vectorised=False))))
    part.keep({"row": "hf", "batch": batch, "ms": medians["hf"]}, gpu_over_hf=medians["hf"] / medians["lazyar"])
