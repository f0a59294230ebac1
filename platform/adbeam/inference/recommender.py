"""A bundle ready to recommend: model, live catalogue, trie and decoder, and the way from decoded SIDs to ads.

Evaluation, rewards, the online loop and the market rank logged requests with it; a replica decodes its queries with it.

Shapes: B requests, H history events, T SID levels, R catalogue rows, n SIDs of one answer.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from adbeam.bundle import Bundle, load_bundle
from adbeam.catalogue.ads import AdCatalogue
from adbeam.declared.encoder import FeatureEncoder
from adbeam.decoding import Decoder, DecodeResult, ItemFilter, Trie
from adbeam.decoding.config import OrderBy
from adbeam.decoding.engines.precision import Precision
from adbeam.features.batch import ContextBatch
from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.requests import Request
from adbeam.logs.trending import TrendTable
from adbeam.model import build_model
from adbeam.model.heads import SidDecoder
from adbeam.targeting.features import Features

BATCH = 16


@dataclass(frozen=True)
class Compute:
    """Where and how precisely a model decodes; see Decoder."""

    device: str | None = None
    """Where the model is put; None leaves it where it is."""
    precision: Precision = "float32"
    compiled: bool = False
    threads: int = 1
    cuda_graphs: bool = False


PLAIN = Compute()


class FoundAd(NamedTuple):
    """An ad of an answer: its row of the catalogue, log p of its SID, and the expected eCPM of that."""

    row: int
    log_probability: float
    expected_ecpm: float


class Recommender:
    """Turns requests into ranked ads.

    Ads that share a SID come by live eCPM, then recency; with `popularity` given, by that.
    `trends` of the log tell a model with trending_length what converted lately.
    """

    def __init__(
        self,
        model: SidDecoder,
        catalogue: pa.Table,
        ecpm_means: Sequence[float],
        order_by: OrderBy = "log_probability",
        *,
        include_paused: bool = False,
        popularity: Mapping[str, float] | None = None,
        trends: TrendTable | None = None,
        ecpm: bool = False,
        compute: Compute = PLAIN,
        features: Features | None = None,
        told: FeatureEncoder | None = None,
    ) -> None:
        """`include_paused` ranks paused ads too, which were live when the log was written. `ecpm` also finds the
        expected eCPM where the order does not need it. Targeting rules count where `features` are given; `told` are the
        declared features that the model is told."""
        self.model = model.eval() if compute.device is None else model.eval().to(compute.device)
        self.spec = FeatureSpec.of(model.config)
        self.catalogue = AdCatalogue(
            catalogue,
            model.config.levels,
            include_paused=include_paused,
            popularity=popularity,
            features=features,
            told=told,
        )
        self.trends: EncodedTrends | None = None
        if trends is not None and self.spec.trending_length:
            self.trends = EncodedTrends(trends, self.catalogue.sids, self.spec)
        self.trie = Trie.build(self.catalogue.sids_RT, model.config.codebooks, self.catalogue.live_R)
        self._means, self._order_by, self._compute = ecpm_means, order_by, compute
        self._ecpm_step = ecpm or order_by != "log_probability"
        self.decoder = self.decoder_in(compute.precision)

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        order_by: OrderBy = "log_probability",
        *,
        include_paused: bool = False,
        popularity: Mapping[str, float] | None = None,
        trends: TrendTable | None = None,
        ecpm: bool = False,
        compute: Compute = PLAIN,
        features: Features | None = None,
    ) -> Self:
        """The recommender of a bundle."""
        model = build_model(bundle.model_config)
        model.load_state_dict(bundle.weights)
        return cls(
            model, bundle.catalogue, bundle.settings.ecpm_means, order_by, include_paused=include_paused,
            popularity=popularity, trends=trends, ecpm=ecpm, compute=compute, features=features,
            told=bundle.told,
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path, order_by: OrderBy = "log_probability") -> Self:
        """The recommender of the bundle that `path` names; raises UserError naming what is wrong with it."""
        return cls.of(load_bundle(path), order_by)

    def decoder_in(self, precision: Precision) -> Decoder:
        """Another decoder of the same model and live catalogue."""
        compute = self._compute
        return Decoder(
            self.model, self.trie, self._means, self._order_by, precision, compute.compiled,
            ecpm_step=self._ecpm_step, threads=compute.threads, cuda_graphs=compute.cuda_graphs,
        )  # fmt: skip

    @property
    def ads(self) -> list[str]:
        """The ads that can be ranked, as the bundle has them."""
        return [self.catalogue.item_ids[row] for row in self.catalogue.live_R.nonzero()[0].tolist()]

    def rank(
        self,
        requests: Sequence[Request],
        widths: tuple[int, ...],
        k: int,
        *,
        new_only: bool = False,
        live: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[str]]:
        """The first k ads of each request; `new_only` leaves out what the user had before, `live` [R] masks ads."""
        hidden = [set(request.history_items()) for request in requests] if new_only else None
        return [[ad for ad, _ in answer] for answer in self.valued(requests, widths, k, hidden, live)]

    def valued(
        self, requests: Sequence[Request], widths: tuple[int, ...], k: int,
        hidden: Sequence[Set[str]] | None = None, live: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[tuple[str, float]]]:  # fmt: skip
        """The first k ads of each request but its `hidden` ones, each with its expected eCPM, which is not a number
        where neither the order nor `ecpm` asks for it."""
        item_ids, ranked = self.catalogue.item_ids, list[list[tuple[str, float]]]()
        for start in range(0, len(requests), BATCH):
            part = requests[start : start + BATCH]
            masks = live[start : start + BATCH] if live else [None] * len(part)
            seen = hidden[start : start + BATCH] if hidden else [frozenset[str]()] * len(part)
            filters = [
                ItemFilter(allow=mask, deny=self.catalogue.known_rows(items))
                for items, mask in zip(seen, masks, strict=True)
            ]
            results = self.decoder.decode(self.contexts(part), [widths] * len(part), filters)
            for result, items, mask in zip(results, seen, masks, strict=True):
                found = self.expand(result, k, items, mask)
                ranked.append([(item_ids[ad.row], ad.expected_ecpm) for ad in found])
        return ranked

    def expand(
        self, result: DecodeResult, count: int, hidden: Container[str] = frozenset(), allow_R: np.ndarray | None = None
    ) -> list[FoundAd]:
        """The first `count` ads of the found SIDs, less those that a filter blocks beside an allowed one of
        the same SID."""
        return list(islice(self.found(result, hidden, allow_R), count))

    def found(
        self, result: DecodeResult, hidden: Container[str] = frozenset(), allow_R: np.ndarray | None = None
    ) -> Iterator[FoundAd]:
        """All ads of the found SIDs as in `expand`, one after the other."""
        index, row_of = self.catalogue.index, self.catalogue.row_of
        found = zip(
            result.sids_nT.tolist(), result.log_probability_n.tolist(), result.expected_ecpm_n.tolist(), strict=True
        )
        for sid, log_probability, ecpm in found:
            for item_id in index.items(sid):
                row = row_of.get(item_id)
                if row is None or item_id in hidden or (allow_R is not None and not allow_R[row : row + 1].any()):
                    continue  # a row that came since the search is none yet, or none that the filter has seen
                yield FoundAd(row, log_probability, ecpm)

    def contexts(self, requests: Sequence[Request]) -> ContextBatch:
        """What the model is told about the requests."""
        moments = [
            Moment(request.now_ms, request.scene, request.sequence.user_id, request.told) for request in requests
        ]
        return build_contexts([self.history(request) for request in requests], moments, self.spec, self.trends).batch()

    def history(self, request: Request) -> History:
        """What the request's user did before it, items without a SID left out."""
        code_HT, known_H = self.catalogue.sids.describe(request.sequence.item_H)
        return History.of(request.sequence, code_HT[known_H], known_H).before(request.now_ms)

    def items(self, sid: Sequence[int]) -> list[str]:
        """The live ads of a SID, in the order they are served in."""
        return self.catalogue.index.items(sid)

    def sid(self, item_id: str) -> tuple[int, ...] | None:
        """The SID of an ad; None when it is none that can be ranked."""
        return self.catalogue.index.sid(item_id)

    def live_sids(self) -> np.ndarray:
        """int32 [N, T], SIDs of all ads that can be ranked."""
        sids_NT: np.ndarray = self.catalogue.sids_RT[self.catalogue.live_R]
        return sids_NT
