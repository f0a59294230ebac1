"""The beam search of one batch: from contexts to ads, level by level, each request at its own widths.

Shapes: B requests, R rows (beams of all requests), W beams of a request, T levels, F fan-out, V codebook,
K eCPM buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adbeam.decoding.config import OrderBy
from adbeam.decoding.engines.lazyar import StepModel
from adbeam.decoding.layout import Layout
from adbeam.decoding.masks.constraint import NEVER, BatchConstraint, Candidates, Constraint
from adbeam.decoding.masks.filters import ItemFilter
from adbeam.decoding.results import DecodeResult, order
from adbeam.decoding.trie.trie import Trie
from adbeam.errors import UserError
from adbeam.features.batch import ContextBatch

Schedule = tuple[int, ...]
Wanted = tuple[Schedule, int]
"""A schedule and how many ads the answer is to hold: `((64, 128, 128), 20)` keeps 64 beams after the first level, and
more where fewer than 20 allowed ads lie below those."""


@dataclass(frozen=True)
class Beams:
    """The beams after one level. `parent_R` are rows of the level before; a row of score -inf only fills its group."""

    layout: Layout
    score_R: Tensor
    entry_R: Tensor
    parent_R: Tensor
    sid_Rt: Tensor


class Search:
    """Searches one catalogue with a model, one batch at a time on one thread."""

    def __init__(self, model: StepModel, trie: Trie, ecpm_means_K: Tensor, order_by: OrderBy, ecpm_step: bool) -> None:
        self.model, self.ecpm_means_K, self.order_by, self.ecpm_step = model, ecpm_means_K, order_by, ecpm_step
        self.constraint = Constraint(trie, model.device)

    def over(self, trie: Trie) -> Search:
        """The same search of another catalogue."""
        return Search(self.model, trie, self.ecpm_means_K, self.order_by, self.ecpm_step)

    @torch.inference_mode()
    def run(
        self,
        context: ContextBatch,
        wanted: Sequence[Wanted],
        filters: Sequence[ItemFilter | None],
        counts: Sequence[int | None],
    ) -> list[DecodeResult]:
        """The answers, requests with the same `wanted` side by side. Call it inside `trie.searching()`."""
        beams, ecpm_RK = self._search(context.to(self.model.device), wanted, self.constraint.batch(filters))
        return self._results(beams, ecpm_RK, [widths for widths, _ in wanted], counts)

    def _search(self, context: ContextBatch, wanted: Sequence[Wanted], batch: BatchConstraint) -> tuple[Beams, Tensor]:
        """The last beams and their eCPM distribution [R, K]."""
        sizes, runs = _runs(wanted)
        state, T = self.model.begin(context), len(self.model.config.codebooks)
        layout = Layout.of(sizes, [1] * len(sizes), self.model.device)
        beams: Beams | None = None
        for level in range(T):
            logits_RV = self._logits(state, level, beams, layout)
            candidates = self._candidates(batch, level, logits_RV, beams)
            last = level == T - 1
            plan = [(widths[level], 0 if last else needed) for widths, needed in runs]
            beams = self._select(candidates, beams, layout, plan, batch)
            layout = beams.layout
        assert beams is not None
        if not self.ecpm_step:
            return beams, beams.score_R.new_empty(layout.rows, 0)
        return beams, torch.softmax(self._logits(state, T, beams, layout), dim=-1)

    def _logits(self, state: Any, level: int, beams: Beams | None, layout: Layout) -> Tensor:
        code_R = None if beams is None else beams.sid_Rt[:, -1]
        h_RD = self.model.step(state, level, code_R, None if beams is None else beams.parent_R, layout)
        return self.model.logits(state, level, h_RD)

    def _candidates(self, batch: BatchConstraint, level: int, logits_RV: Tensor, beams: Beams | None) -> Candidates:
        """Log-probability of every reachable continuation; the normaliser runs over the whole codebook."""
        total_R = torch.logsumexp(logits_RV, dim=-1)
        if not bool(torch.isfinite(total_R).all()):
            raise UserError(f"the model's logits of level {level} are not finite numbers", field="model",
                            remedy="export a bundle whose weights are finite")  # fmt: skip
        if beams is None:
            candidates = batch.first(logits_RV)
            candidates.score_RF.sub_(total_R[:, None])
        else:
            alive_R = torch.isfinite(beams.score_R)
            candidates = batch.next(level, logits_RV, beams.entry_R, alive_R, beams.layout)
            candidates.score_RF.add_((beams.score_R - total_R)[:, None])
        return candidates

    def _select(
        self, candidates: Candidates, beams: Beams | None, layout: Layout, plan: list[tuple[int, int]],
        batch: BatchConstraint,
    ) -> Beams:  # fmt: skip
        """The best children of each request, group by group; `plan` has a group's width and the ads it must reach."""
        score, parent, entry, kept = [], [], [], []
        for group, (width, needed) in zip(layout.groups, plan, strict=True):
            value_BW, parent_BW, entry_BW = batch.best(candidates, group, max(width, needed))
            if needed > width:
                below_BW = batch.leaves_below(candidates.level, group, entry_BW, width, needed)
                value_BW = _enough(value_BW, below_BW, width, needed)
            # A group is as wide as its fullest request: what nobody can fill costs nothing further down.
            full = min(rounded_up(int((value_BW > NEVER).sum(1).max()), self.model.multiple), value_BW.shape[1])
            score.append(value_BW[:, :full].flatten())
            parent.append(parent_BW[:, :full].flatten())
            entry.append(entry_BW[:, :full].flatten())
            kept.append(full)
        parent_R, entry_R = torch.cat(parent), torch.cat(entry)
        code_R1 = batch.tensors.codes(candidates.level, entry_R)[:, None]
        sid_Rt = code_R1 if beams is None else torch.cat([beams.sid_Rt.index_select(0, parent_R), code_R1], dim=1)
        below = Layout.of([group.requests for group in layout.groups], kept, entry_R.device)
        return Beams(below, torch.cat(score), entry_R, parent_R, sid_Rt)

    def _results(
        self, beams: Beams, ecpm_RK: Tensor, schedules: Sequence[Schedule], counts: Sequence[int | None]
    ) -> list[DecodeResult]:
        unknown = float("nan")
        expected_R = ecpm_RK @ self.ecpm_means_K if self.ecpm_step else torch.full_like(beams.score_R, unknown)
        key_R = order(beams.score_R, expected_R, self.order_by)
        results: list[DecodeResult] = []
        for group in beams.layout.groups:
            # Stable: ads of equal keys keep the order of the search, on every machine.
            place_BW = group.view(key_R).argsort(dim=1, descending=True, stable=True)
            row_BW = place_BW + torch.arange(
                group.first_row, group.first_row + group.requests * group.width, group.width, device=place_BW.device
            )[:, None]  # fmt: skip
            views = [x[row_BW].cpu() for x in (beams.sid_Rt, beams.score_R, ecpm_RK, expected_R)]
            found_B = (group.view(key_R) > NEVER).sum(1).tolist()
            for place, parts in enumerate(zip(*views, strict=True)):
                b = group.first_request + place
                limit, (sid_nT, log_p_n, ecpm_nK, expected_n) = counts[b], parts
                n = found_B[place] if limit is None else min(limit, found_B[place])
                results.append(DecodeResult(sid_nT[:n], log_p_n[:n], ecpm_nK[:n], expected_n[:n], schedules[b]))
        return results


def rounded_up(count: int, multiple: int) -> int:
    """The next power of two below `multiple`, the next multiple above; at least 1, `count` itself where that is 1.

    An engine that records has one recording a shape, so few shapes may occur. With 16: 5 -> 8, 40 -> 48, 70 -> 80.
    """
    if multiple == 1 or count < 1:
        return max(1, count)
    return min(1 << (count - 1).bit_length(), -(-count // multiple) * multiple)


def _runs(wanted: Sequence[Wanted]) -> tuple[list[int], list[Wanted]]:
    """How many neighbours want the same, and what: [a, a, b] gives ([2, 1], [a, b])."""
    sizes: list[int] = []
    runs: list[Wanted] = []
    for one in wanted:
        if runs and runs[-1] == one:
            sizes[-1] += 1
        else:
            sizes.append(1)
            runs.append(one)
    return sizes, runs


def _enough(value_BW: Tensor, below_BW: Tensor, width: int, needed: int) -> Tensor:
    """Scores, minus infinity behind the first `width` prefixes and those further ones that it takes to reach `needed`
    ads, `below_BW` of which lie below each.

    With `width` 2, `needed` 5 and 1, 2, 1, 3, 4 ads below, 0, 1, 3, 4, 7 lie before each: the first four stay.
    """
    before_BW = below_BW.cumsum(1).sub_(below_BW)
    place_W = torch.arange(value_BW.shape[1], device=value_BW.device)
    return value_BW.masked_fill((place_W >= width) & (before_BW >= needed), NEVER)
