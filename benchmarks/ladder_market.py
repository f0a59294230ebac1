"""The rows of the ladder: how each is trained on the simulated market's log, and the revenue it brings there.

Every row of one seed sees the same market, log and requests. Rows that learn from lists go on from the VSL model for
the same number of steps as VSL itself does, on lists that the VSL model generated. Every method has the weight that was
best for it on a small market of another size: RSPO's Lambda weights sum to less than 1 and are a hundredth of that for
neighbours in rank, so its weight is large; UVR takes each list's ideal DCG for Z_max, which cancels the Z inside them.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.bundle import load_bundle, write_bundle
from adbeam.config import Config
from adbeam.evaluation.ranker import Ranker
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence, read_sequences
from adbeam.market.cascade import Cascade, click_pairs, train_two_tower
from adbeam.market.config import MarketConfig
from adbeam.market.feed import Feed, audience_of
from adbeam.market.play import NOTHING, Market
from adbeam.market.workdir import prepare_market, tokenize_market
from adbeam.market.world import SCENES, Requests, World
from adbeam.rewards import generate_lists, reward
from adbeam.rewards.scoring import RewardModel
from adbeam.training.bundling import catalogue_with_sids
from adbeam.training.ingest import build_rows
from adbeam.training.plain import train_plain
from adbeam.training.trainer import build_job, lists_for

MARKET = MarketConfig()
FULL, BY_LEVEL = (64, 64, 64), (16, 32, 64)
NTP = {"objectives.lambda_ecpm": 0.0, "objectives.lambda_mtp": 0.0, "training.user_value_weights": False,
       "training.behavior_weights": {"ad_conversion": 1.0, "ad_click": 1.0}}  # fmt: skip
BASE: dict[str, Any] = {
    "model.width": 64, "model.layers": 6, "model.lazy_layers": 0, "model.heads": 4, "model.context_kv_groups": 2,
    "model.codebooks": (64, 32, 64), "model.ecpm_buckets": 16, "model.short_length": 24, "model.long_length": 8,
    "model.item_buckets": 4096, "model.prefix_buckets": 2048, "decoding.widths": FULL,
    "training.batch_requests": 64, "training.batch_lists": 32, "training.workers": 0, "training.warmup_steps": 30,
    "training.learning_rate": 0.003, "training.target_action": "click", "training.schedule": "linear",
    "training.final_learning_rate_share": 0.1, "rewards.workers": 0, "lists.workers": 0, "lists.max_requests": 2000,
    "lists.requests_per_user": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the ladder. `goes_on` names the row whose model it continues; `uses` whose model it is."""

    name: str
    unified_sids: bool = True
    settings: tuple[tuple[str, Any], ...] = ()
    goes_on: str | None = None
    uses: str | None = None
    widths: tuple[int, ...] = FULL
    order_by: str = "expected_value"
    shown: bool = True


def _row(name: str, settings: dict[str, Any], **rest: Any) -> Row:
    return Row(name, settings=tuple(settings.items()), **rest)


def _preference(method: str, **rest: Any) -> dict[str, Any]:
    return {"objectives.preference": {"method": method, **rest}}


LAZY, MTP = {"model.lazy_layers": 4}, {"model.decoder": "mtp"}
UVR = {**_preference("rspo", unified=True), "objectives.uvr": {"z_max": "ideal_dcg"}}
ROWS: tuple[Row, ...] = (
    _row("gr_base", NTP, unified_sids=False, order_by="log_probability"),
    _row("ua_sid", NTP, order_by="log_probability"),
    _row("vsl_start", {}, shown=False),
    _row("vsl", {}, goes_on="vsl_start"),
    _row("vsl_dpo", _preference("dpo"), goes_on="vsl_start"),
    _row("vsl_grpo", _preference("grpo", weight=5.0), goes_on="vsl_start"),
    _row("vsl_sdpo", _preference("sdpo"), goes_on="vsl_start"),
    _row("vsl_ndcg_loss2", _preference("ndcg_loss2", weight=3.0), goes_on="vsl_start"),
    _row("vsl_rspo", _preference("rspo", weight=40.0), goes_on="vsl_start"),
    _row("uvr", UVR, goes_on="vsl_start"),
    _row("uvr_dbs", {}, uses="uvr", widths=BY_LEVEL),
    _row("mtp_start", MTP, shown=False),
    _row("uvr_dbs_mtp", {**MTP, **UVR}, goes_on="mtp_start", widths=BY_LEVEL),
    _row("lazyar_start", LAZY, shown=False),
    _row("uvr_dbs_lazyar", {**LAZY, **UVR}, goes_on="lazyar_start", widths=BY_LEVEL),
)


@dataclass(frozen=True)
class Bench:
    """One seed of the ladder in its folder; everything that is finished there is used again."""

    root: Path
    seed: int
    steps: int
    more_steps: int
    requests: int
    market: MarketConfig = MARKET

    def config(self, row: Row, **more: Any) -> Config:
        """What a row is trained with."""
        work_dir = self.root / ("unified" if row.unified_sids else "plain")
        return Config.load(None, {"work_dir": str(work_dir), "seed": self.seed, **BASE, **dict(row.settings), **more})

    def prepare(self) -> World:
        """The market, its log, both kinds of SIDs and the reward model."""
        world = World(self.market, self.seed)
        for row in (ROWS[0], ROWS[1]):
            config = self.config(row)
            if not (config.work_dir / "prepared").exists():
                prepare_market(world, config.work_dir)
            if not (config.work_dir / "tokens").exists():
                tokenize_market(world, config.work_dir, config.model.codebooks, unified=row.unified_sids)
            reward(config)
        return world

    def weights(self, row: Row) -> Path:
        """The trained weights of a row; trains them, and what they go on from, where they are not there."""
        if row.uses is not None:
            return self.weights(named(row.uses))
        path = self.root / "weights" / f"{row.name}-{self.steps}-{self.more_steps}.safetensors"
        if path.is_file():
            return path
        start = None if row.goes_on is None else self.weights(named(row.goes_on))
        more: dict[str, Any] = {"training.max_steps": self.more_steps if start or not row.shown else self.steps}
        if start is None:
            more["training.max_steps"] = self.steps + (self.more_steps if row.shown else 0)
        else:
            more |= {"training.start_from": str(start), "training.learning_rate": 0.001, "training.warmup_steps": 0}
        config = self.config(row, **more)
        if config.objectives.preference.method != "none":
            assert row.goes_on is not None
            self._lists(named(row.goes_on), config)
        store = build_rows(config, use_ray=False)
        job, stream = build_job(config, store, self.root / "run", lists_for(config, store))
        job = replace(job, total_steps=int(more["training.max_steps"]))
        model, _ = train_plain(job, stream)
        path.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_json(path.with_suffix(".json"), job.maker.buckets.means.tolist())
        partial = path.with_name(f".{path.name}.partial")
        save_file(model.state_dict(), partial)
        partial.rename(path)
        return path

    def _means(self, row: Row) -> list[float]:
        """Mean value of each eCPM bucket of a trained row."""
        return list(json.loads(self.weights(row).with_suffix(".json").read_text(encoding="utf-8")))

    def _lists(self, row: Row, config: Config) -> None:
        """Lists by the model that `row` trained, in the work_dir of `config`; current ones are kept."""
        bundles = config.work_dir / "bundles"
        made_by = f"{row.name}-{self.steps}-{self.more_steps}"
        if not bundles.is_dir() or load_bundle(bundles).manifest.get("row") != made_by:
            self._write_bundle(row, self.config(row), made_by)
        generate_lists(config)

    def _write_bundle(self, row: Row, config: Config, made_by: str) -> None:
        prepared = PreparedLog.open(config.work_dir / "prepared", verify=False)
        write_bundle(
            config.work_dir / "bundles",
            model_config=config.model,
            settings={"ecpm_means": self._means(row), "scenes": list(SCENES)},
            weights=load_file(self.weights(row)),
            codebooks={"level_0": torch.zeros(1, 1)},
            ladder_quality={"metric": "none", "full_widths": list(FULL), "schedules": []},
            catalogue=catalogue_with_sids(prepared.catalogue(), pq.read_table(config.work_dir / "tokens/sids.parquet")),
            details={"row": made_by},
        )

    def ranker(self, row: Row) -> Ranker:
        """What a row answers with."""
        from adbeam.model import build_model

        source = named(row.uses) if row.uses else row
        config = self.config(source)
        prepared = PreparedLog.open(config.work_dir / "prepared", verify=False)
        model = build_model(config.model)
        model.load_state_dict(load_file(self.weights(source)))
        catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(config.work_dir / "tokens/sids.parquet"))
        return Ranker(model.eval(), catalogue, self._means(source), order_by=row.order_by)  # type: ignore[arg-type]

    def sequences(self) -> list[UserSequence]:
        """All users of the log."""
        shards = PreparedLog.open(self.config(ROWS[1]).work_dir / "prepared", verify=False).sequences()
        return [sequence for shard in shards for sequence in read_sequences(shard)]

    def judge(self, row: Row, world: World) -> tuple[float, float]:
        """(expected revenue a request on the day after the log, decoded requests a second)."""
        requests = world.requests(self.market.days, self.requests)
        feed = Feed(Market(world), audience_of(self.sequences()), self.root / "feed")
        ranker = self.ranker(row)  # trains what is missing
        began = time.process_time()
        shown = feed.answer(ranker, requests, row.widths, self.market.slots)
        seconds = time.process_time() - began
        return float(Market(world).expected_revenue(requests, shown).mean()), self.requests / seconds

    def judge_cascade(self, world: World) -> float:
        """Expected revenue a request of two-tower recall and DLRM ranking."""
        work_dir = self.config(ROWS[1]).work_dir
        catalogue = PreparedLog.open(work_dir / "prepared", verify=False).catalogue()
        judge = RewardModel.open(work_dir / "reward", catalogue)
        sequences = self.sequences()
        tower = train_two_tower(click_pairs(sequences, judge), judge, self.seed)
        cascade = Cascade(tower, judge, catalogue)
        requests = world.requests(self.market.days, self.requests)
        return float(
            Market(world).expected_revenue(requests, self._cascade(cascade, world, requests, sequences)).mean()
        )

    def _cascade(self, cascade: Cascade, world: World, requests: Requests, sequences: list[UserSequence]) -> np.ndarray:
        audience, market = audience_of(sequences), Market(world)
        live = market.affordable(requests.day)
        mask = np.array([live[int(ad.removeprefix("ad"))] for ad in cascade.ads])
        shown = np.full((len(requests), self.market.slots), NOTHING)
        for start in range(0, len(requests), 64):
            places = range(start, min(start + 64, len(requests)))
            for place, ads in zip(places, cascade.rank([audience.request(requests, p) for p in places],
                                                       self.market.slots, mask), strict=True):  # fmt: skip
                shown[place, : len(ads)] = [int(ad.removeprefix("ad")) for ad in ads]
        return shown

    def bounds(self, world: World) -> dict[str, float]:
        """Revenue a request of random live ads and of the truth's own best, to see where the ladder stands."""
        requests = world.requests(self.market.days, self.requests)
        live = np.flatnonzero(world.live(requests.day))
        rng = np.random.default_rng(self.seed)
        random = live[rng.integers(len(live), size=(len(requests), self.market.slots))]
        every = np.broadcast_to(live, (len(requests), len(live)))
        best = np.argsort(-world.ecpm(requests.user_R, every, requests.day), axis=1)[:, : self.market.slots]
        shown = {"random": random, "best": live[best]}
        return {name: float(Market(world).expected_revenue(requests, ads).mean()) for name, ads in shown.items()}


def named(name: str | None) -> Row:
    """The row called `name`."""
    return next(row for row in ROWS if row.name == name)
