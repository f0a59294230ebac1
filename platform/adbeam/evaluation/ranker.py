"""Ranks ads for logged requests with a model, through the same beam search that serves.

Shapes: B requests, H history events, T SID levels, N ads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.bundle import SID_COLUMN, Bundle
from adbeam.decoding import Decoder, DecodeResult, ItemFilter, Trie
from adbeam.decoding.config import OrderBy
from adbeam.features.batch import ContextBatch
from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.requests import Request
from adbeam.logs.trending import TrendTable
from adbeam.model import build_model
from adbeam.model.lazyar import LazyAR
from adbeam.model.mtp import MtpDecoder
from adbeam.tokens.index import SidIndex

BATCH = 16


class Ranker:
    """Turns requests into ranked ads.

    Ads that share a SID come in the order they are served in, live eCPM then recency; with `popularity` given, by that.
    `trends` of the log tell a model with trending_length what converted lately.
    """

    def __init__(
        self,
        model: LazyAR | MtpDecoder,
        catalogue: pa.Table,
        ecpm_means: Sequence[float],
        order_by: OrderBy = "log_probability",
        popularity: Mapping[str, float] | None = None,
        trends: TrendTable | None = None,
        ecpm: bool = False,
    ) -> None:
        """`ecpm` also finds the expected eCPM where the order does not need it."""
        ads = catalogue.filter(
            pc.and_(pc.is_valid(catalogue.column(SID_COLUMN)), pc.equal(catalogue.column("kind"), "ad"))
        )
        self.ads: list[str] = ads.column("item_id").to_pylist()
        self.row_of = {item: row for row, item in enumerate(self.ads)}
        self._index = SidIndex.from_table(_ranked_by(ads, popularity))
        self.sids = SidTable.of_catalogue(catalogue, model.config.levels)
        self.spec = FeatureSpec.of(model.config)
        self.trends: EncodedTrends | None = None
        if trends is not None and self.spec.trending_length:
            self.trends = EncodedTrends(trends, self.sids, self.spec)
        self.model = model
        trie = Trie.build(self.sids.lookup(self.ads)[0], model.config.codebooks)
        step = ecpm or order_by != "log_probability"
        self.decoder = Decoder(model.eval(), trie, ecpm_means, order_by, ecpm_step=step)

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        order_by: OrderBy = "log_probability",
        popularity: Mapping[str, float] | None = None,
        trends: TrendTable | None = None,
    ) -> Ranker:
        """The ranker of a bundle."""
        model = build_model(bundle.model_config)
        model.load_state_dict(bundle.weights)
        return cls(model, bundle.catalogue, bundle.settings.ecpm_means, order_by, popularity, trends)

    def rank(
        self,
        requests: Sequence[Request],
        widths: tuple[int, ...],
        k: int,
        *,
        new_only: bool = False,
        live: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[str]]:
        """The first k ads of each request; `new_only` leaves out what the user had before, `live` [N] masks ads."""
        hidden = [set(request.history_items()) for request in requests] if new_only else None
        return [[ad for ad, _ in answer] for answer in self.valued(requests, widths, k, hidden, live)]

    def valued(
        self, requests: Sequence[Request], widths: tuple[int, ...], k: int,
        hidden: Sequence[Set[str]] | None = None, live: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[tuple[str, float]]]:  # fmt: skip
        """The first k ads of each request but its `hidden` ones, each with its expected eCPM, which is not a number
        where neither the order nor `ecpm` asks for it."""
        ranked: list[list[tuple[str, float]]] = []
        for start in range(0, len(requests), BATCH):
            part = requests[start : start + BATCH]
            masks = live[start : start + BATCH] if live else [None] * len(part)
            seen = hidden[start : start + BATCH] if hidden else [frozenset[str]()] * len(part)
            filters = [
                ItemFilter(allow=mask, deny=[self.row_of[item] for item in items if item in self.row_of])
                for items, mask in zip(seen, masks, strict=True)
            ]
            results = self.decoder.decode(self.contexts(part), [widths] * len(part), filters)
            for result, items, mask in zip(results, seen, masks, strict=True):
                ranked.append(self._expand(result, items, mask, k))
        return ranked

    def contexts(self, requests: Sequence[Request]) -> ContextBatch:
        """What the model is told about the requests."""
        moments = [Moment(request.now_ms, request.scene, request.sequence.user_id) for request in requests]
        return build_contexts([self.history(request) for request in requests], moments, self.spec, self.trends).batch()

    def history(self, request: Request) -> History:
        """What the request's user did before it, items without a SID left out."""
        code_HT, known_H = self.sids.lookup(request.sequence.item_H)
        return History.of(request.sequence, code_HT[known_H], known_H).before(request.now_ms)

    def items(self, sid: Sequence[int]) -> list[str]:
        """The live ads of a SID, in the order they are served in."""
        return self._index.items(sid)

    def sid(self, item_id: str) -> tuple[int, ...] | None:
        """The SID of an ad; None when it is none that can be ranked."""
        return self._index.sid(item_id)

    def live_sids(self) -> np.ndarray:
        """int32 [N, T], SIDs of all ads."""
        return self.sids.lookup(self.ads)[0]

    def _expand(self, result: DecodeResult, seen: Set[str], mask: np.ndarray | None, k: int) -> list[tuple[str, float]]:
        ads: list[tuple[str, float]] = []
        for sid, ecpm in zip(result.sids_nT.tolist(), result.expected_ecpm_n.tolist(), strict=True):
            for ad in self._index.items(sid):
                if ad not in seen and (mask is None or mask[self.row_of[ad]]):
                    ads.append((ad, ecpm))
            if len(ads) >= k:
                break
        return ads[:k]


def _ranked_by(ads: pa.Table, popularity: Mapping[str, float] | None) -> pa.Table:
    """The ads as the index takes them, paused ones too: they were live when the log was written."""
    table = ads.select(["item_id", SID_COLUMN, "ecpm"])
    if popularity is None:
        return table
    counts = pa.array([float(popularity.get(item, 0)) for item in table.column("item_id").to_pylist()])
    return table.set_column(2, "ecpm", counts)
