"""Every benchmark: what it asks, how it is called, and the rooms whose change makes its result stale."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One `python -m benchmarks.NAME`. `rooms` are folders and files under platform/adbeam."""

    question: str
    arguments: str
    rooms: tuple[str, ...]


BEAMS = ("beams", "serving", "decoding")
LEARNING = ("model", "features", "objectives", "training")

FIGURES: dict[str, Figure] = {
    "beauty": Figure("recall on Amazon Beauty against the papers", "DATA --model-dir MINILM", ("tokens", *LEARNING)),
    "decode": Figure("decoding: speed, memory, exactness", "", ("decoding", "model")),
    "decode_scale": Figure("decoding a million and 25 million ads", "", ("decoding", "model")),
    "fuzz": Figure("no body that a client sends fails inside", "", ("serving",)),
    "gpu": Figure("decoding on a GPU, beside Hugging Face", "", ("decoding", "model")),
    "house": Figure("circles, sizes, tests, types, start-up", "--tests", ("imports", "cli", "library", "config.py")),
    "inputs": Figure("a log comes out the same however it was written", "", ("logs", "identity")),
    "ladder": Figure("the paper's ladder in simulated revenue", "", ("market", "rewards", "online", *LEARNING)),
    "ladder_tune": Figure("weights of methods that learn from lists", "", ("market", "rewards", *LEARNING)),
    "money": Figure("what answers promise against the truth", "", ("pricing", "export", "market", "serving/engine")),
    "off_policy": Figure("off-policy intervals on Open Bandit", "DATA", ("evaluation",)),
    "operations": Figure("one's own log to an ad; panels with data", "", ("logs", "cli", "dashboards", "serving")),
    "prepare": Figure("prepare against DuckDB and Polars", "", ("logs", "ray_data")),
    "quickstart": Figure("recall, burst and minutes of the quickstart", "", ("logs", "tokens", *LEARNING, *BEAMS)),
    "requests": Figure("mutated bid requests; forbidden users leave no trace", "", ("serving", "consent", "catalogue")),
    "spike": Figure("beam policies under live spikes", "--work-dir DIR --traces DATA", BEAMS),
    "spike_simulated": Figure("beam policies under simulated spikes", "--traces DATA", ("beams",)),
    "told": Figure("what targeting, profiles and caps cost", "", ("targeting", "list_rules", "budgets", "serving")),
    "tokens": Figure("tokenizers on real catalogues", "--completejourney DIR --beauty DIR", ("tokens",)),
    "tokens_speed": Figure("how fast vectors become semantic IDs", "", ("tokens",)),
    "training": Figure("what Ray Train and DeepSpeed cost", "", ("training",)),
    "training_memory": Figure("what a worker of each ZeRO stage holds", "SIZE STAGE RANK WORLD STORE", ("training",)),
    "training_phases": Figure("where a step of DeepSpeed takes longer", "", ("training",)),
    "value_offline": Figure("learning value offline on real data", "", ("rewards", *LEARNING)),
}
"""By name."""
