"""Impressions that training has not seen, as the model judges them and with what came of them.

They are those of the validation split. What followed is looked for in the whole log, and impressions so late that most
of what follows lies beyond its end are left out.

Shapes: X impressions, H events of a user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import track

from adbeam.decoding import ItemFilter
from adbeam.export.prices.counts import CLICK, IMPRESSION
from adbeam.inference.recommender import BATCH, Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import AD, Request, UserSequence, read_sequences
from adbeam.ray_data.progress import told
from adbeam.records import ACTIONS, SPLITS

LATE_SHARE = 0.05
"""Of the clicks and targets, those that follow later than what is waited for."""


@dataclass(frozen=True)
class Impressions:
    """One row for each time that an ad was shown."""

    item_X: np.ndarray
    scene_X: np.ndarray
    weight_X: np.ndarray
    """1 / (probability that the log kept the impression)."""
    clicks_X: np.ndarray
    targets_X: np.ndarray
    money_X: np.ndarray
    log_probability_X: np.ndarray
    """log p of the ad's semantic ID; not a number where the model cannot reach it."""
    value_X: np.ndarray
    """What the model expects of a target, given that there is one."""

    def __len__(self) -> int:
        return len(self.item_X)

    def where(self, chosen_X: np.ndarray) -> Self:
        """Some of them."""
        return type(self)(**{part.name: getattr(self, part.name)[chosen_X] for part in fields(self)})


@dataclass(frozen=True)
class _Shown:
    """The impressions of one request."""

    request: Request
    weight_e: np.ndarray
    place_e: np.ndarray
    outcome_e3: np.ndarray
    """Clicks, targets, money."""


def held_out(prepared: PreparedLog, recommender: Recommender, target: str, most: int, limit: float) -> Impressions:
    """The impressions of at most `most` validation requests, spread over the users, each judged by the model.

    Money of a target above `limit` counts as none. Raises nothing where there are none: the result is empty.
    """
    shown = list(_validation(prepared, target, limit))
    if len(shown) > most:
        shown = [shown[place] for place in np.unique(np.linspace(0, len(shown) - 1, most).round().astype(int))]
    starts = range(0, len(shown), BATCH)
    console = Console(stderr=True)
    shown_starts = track(starts, "judging impressions", console=console, disable=not console.is_terminal)
    judged = (_judged(recommender, shown[start : start + BATCH]) for start in shown_starts)
    parts = list(told(judged, len(starts), "judging impressions, in batches"))
    names = [part.name for part in fields(Impressions)]
    return Impressions(**{
        name: np.concatenate([np.asarray(getattr(part, name)) for part in parts]) if parts else np.zeros(0)
        for name in names
    })  # fmt: skip


def _validation(prepared: PreparedLog, target: str, limit: float) -> Iterator[_Shown]:
    """Requests of the validation split with an impression of an ad, old enough to know what came of it."""
    ripe_ms = _ripe(prepared, target)
    for shard in prepared.sequences():
        weight_E, first = prepared.impression_weights(shard.name), 0
        for sequence in read_sequences(shard):
            end = first + len(sequence.timestamp_H)
            shown_H = (sequence.action_H == IMPRESSION) & (sequence.kind_H == AD)
            place_e = np.flatnonzero(shown_H & (sequence.split_H == SPLITS.index("validation"))
                                     & (sequence.timestamp_H <= ripe_ms))  # fmt: skip
            if len(place_e):
                owner_H = followed(sequence, target)
                outcome_H3 = _outcomes(sequence, owner_H, target, limit)
                yield from _requests(sequence, place_e, weight_E[first:end], outcome_H3)
            first = end


def followed(sequence: UserSequence, target: str) -> np.ndarray:
    """int64 [H]: the impression that a click or target of an ad followed, -1 for none and for all other events.

    That of the same request, else the newest one before it.
    """
    owner_H = np.full(len(sequence.timestamp_H), -1, np.int64)
    newest: dict[str, int] = {}
    inside: dict[tuple[str, str], int] = {}
    deeds = (CLICK, ACTIONS.index(target))
    for place in np.flatnonzero(sequence.kind_H == AD).tolist():
        item, request, action = sequence.item_H[place], sequence.request_H[place], sequence.action_H[place]
        if action == IMPRESSION:
            newest[item] = inside[item, request] = place
        elif action in deeds:
            owner_H[place] = inside.get((item, request), newest.get(item, -1))
    return owner_H


def _outcomes(sequence: UserSequence, owner_H: np.ndarray, target: str, limit: float) -> np.ndarray:
    """float64 [H, 3]: clicks, targets and money that followed each impression."""
    outcome_H3 = np.zeros((len(owner_H), 3))
    hit_H, known_H = sequence.action_H == ACTIONS.index(target), owner_H >= 0
    money_H = np.where(hit_H & (sequence.value_H <= limit), sequence.value_H, 0.0)
    for column, part in enumerate((sequence.action_H == CLICK, hit_H, money_H)):
        np.add.at(outcome_H3[:, column], owner_H[known_H], part[known_H])
    return outcome_H3


def _requests(
    sequence: UserSequence, place_e: np.ndarray, weight_H: np.ndarray, outcome_H3: np.ndarray
) -> Iterator[_Shown]:
    names = sequence.request_H[place_e].astype(str)
    for name in dict.fromkeys(names.tolist()):
        mine_e = place_e[names == name]
        now_ms = int(sequence.timestamp_H[(sequence.request_H == name)].min())
        request = Request(
            sequence, name, now_ms, sequence.count_before(now_ms), str(sequence.scene_H[mine_e[0]]), mine_e
        )
        yield _Shown(request, weight_H[mine_e], mine_e, outcome_H3[mine_e])


def _ripe(prepared: PreparedLog, target: str) -> float:
    """Until when impressions are old enough: the log's end less the time that most clicks and targets take.

    The delays are those of the training split.
    """
    delays, end_ms = [np.zeros(0)], 0
    for shard in prepared.sequences()[:1]:
        for sequence in read_sequences(shard):
            owner_H = followed(sequence, target)
            known_H = (owner_H >= 0) & (sequence.split_H == SPLITS.index("train"))
            delays.append(sequence.timestamp_H[known_H] - sequence.timestamp_H[owner_H[known_H]])
            end_ms = max(end_ms, int(sequence.timestamp_H.max(initial=0)))
    every = np.concatenate(delays)
    return end_ms - float(np.quantile(every, 1 - LATE_SHARE)) if len(every) else np.inf


def _judged(recommender: Recommender, shown: Sequence[_Shown]) -> Impressions:
    """The model's log p and expected money of a target for each impression: a search that may only find those ads."""
    catalogue, levels = recommender.catalogue, recommender.model.config.levels
    requests = [part.request for part in shown]
    filters = [_only(recommender, request) for request in requests]
    schedule = (max(len(request.target_positions) for request in requests),) * levels
    results = recommender.decoder.decode(recommender.contexts(requests), [schedule] * len(requests), filters)
    found = [{tuple(sid): place for place, sid in enumerate(result.sids_nT.tolist())} for result in results]
    items = [request.targets for request in requests]
    log_p, value = [], []
    for result, places, ids in zip(results, found, items, strict=True):
        for item in ids.tolist():
            place = places.get(catalogue.index.sid(item) or ())
            log_p.append(float("nan") if place is None else float(result.log_probability_n[place]))
            value.append(float("nan") if place is None else float(result.expected_ecpm_n[place]))
    outcome_X3 = np.concatenate([part.outcome_e3 for part in shown])
    return Impressions(
        item_X=np.concatenate(items).astype(object),
        scene_X=np.concatenate([np.full(len(part.place_e), part.request.scene, object) for part in shown]),
        weight_X=np.concatenate([part.weight_e for part in shown]),
        clicks_X=outcome_X3[:, 0], targets_X=outcome_X3[:, 1], money_X=outcome_X3[:, 2],
        log_probability_X=np.array(log_p), value_X=np.array(value),
    )  # fmt: skip


def _only(recommender: Recommender, request: Request) -> ItemFilter:
    """Allows the ads that the request showed and nothing else."""
    allow_R = np.zeros(len(recommender.catalogue), dtype=bool)
    allow_R[recommender.catalogue.known_rows(request.targets)] = True
    return ItemFilter(allow=allow_R)
