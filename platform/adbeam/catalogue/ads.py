"""The ads of a bundle as a replica needs them: what to show, what a filter blocks, what is popular; and their changes.

The trie names items by row. Rows are those of the bundle's catalogue, then one more for every ad that is inserted while
the replica serves; a row never changes, so that readers need no lock. One thread at a time may insert. R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.bundle import SID_COLUMN
from adbeam.catalogue.blocked import EVERYTHING, NO_ROWS, Allowed, Blocked, RequestMasks, both
from adbeam.catalogue.creatives.creative import UNDECLARED, Creative, Demands
from adbeam.catalogue.creatives.table import Creatives
from adbeam.catalogue.index import Sid, SidIndex
from adbeam.catalogue.owners import Owner, campaigns_of
from adbeam.catalogue.popular import PopularAds, PricesOfPopular
from adbeam.declared.encoder import FeatureEncoder
from adbeam.decoding.masks.filters import ItemFilter
from adbeam.errors import UserError
from adbeam.features.sid_table import SidTable
from adbeam.logs.told.items import codes_of, item_codes
from adbeam.records import CAMPAIGN, CatalogueItem, ItemKind, Status
from adbeam.targeting.features import Features
from adbeam.targeting.live import LiveTargeting
from adbeam.targeting.rules import TARGETING
from adbeam.targeting.told import Told

POPULARITY_COLUMNS = ("popularity", "ecpm")
"""What orders the fallback list: the first of these columns that the catalogue has."""


class AdCatalogue:
    """Items with a SID. Only active ads are servable; the others are known as parts of histories."""

    def __init__(
        self,
        table: pa.Table,
        levels: int,
        *,
        include_paused: bool = False,
        popularity: Mapping[str, float] | None = None,
        features: Features | None = None,
        told: FeatureEncoder | None = None,
    ) -> None:
        """`include_paused` serves paused ads too: they were live when the log was written. Ads of one SID come by live
        eCPM, then recency; with `popularity` given, by that. Targeting rules count where `features` are given; raises
        UndeclaredFeatures for rules over others. `told` are the declared features that the model is told."""
        if include_paused:
            active = pa.repeat(pa.scalar(Status.ACTIVE.value), len(table))
            table = table.set_column(table.column_names.index("status"), "status", active)
        table.filter(pc.is_valid(table.column(SID_COLUMN)))
        self.item_ids: list[str] = table.column("item_id").to_pylist()
        self.row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._title = table.column("title").to_pylist()
        self._price = table.column("price").to_pylist()
        self._ecpm = table.column("ecpm").to_pylist()
        self._advertiser = table.column("advertiser").to_pylist()
        self._campaign = campaigns_of(table)
        self._category = table.column("category").to_pylist()
        self._rows_by = {
            "advertiser": _rows_by_value(self._advertiser),
            CAMPAIGN: _rows_by_value(self._campaign),
            "category": _rows_by_value(self._category),
        }
        self.live_R = np.array(
            pc.and_(
                pc.equal(table.column("kind"), ItemKind.AD.value), pc.equal(table.column("status"), Status.ACTIVE.value)
            ).to_numpy(zero_copy_only=False),
            dtype=bool,
        )
        """Which rows of the bundle were live when it was made."""
        if not self.live_R.any():
            raise UserError("the bundle's catalogue holds no active ad", field="catalogue", remedy="export it again")
        self.index = SidIndex.of_catalogue(table if popularity is None else _valued_by(table, popularity))
        self.sids = SidTable.of_catalogue(table, levels)
        self.sids_RT, self._told = self.sids.lookup(self.item_ids)[0], told
        self._code_RX = self.sids_RT
        if told is not None and told.items:
            self.sids = self.sids.told_of(self.item_ids, item_codes(table, told))
            self._code_RX = self.sids.describe(self.item_ids)[0]
        self._inserted: list[tuple[int, ...]] = []
        self._masks = RequestMasks(self._rows_by, self.known_rows)
        self._popular_rows = _popular_rows(table, self.live_R)
        has_rules = TARGETING in table.column_names and pa.types.is_string(table.schema.field(TARGETING).type)
        rules = table.column(TARGETING) if has_rules else None
        self.targeting = None if features is None else LiveTargeting(rules, features, len(table))
        self.creatives: Creatives | None = None

    def declare(self, creatives: Creatives) -> None:
        """Know the creatives of the rows; before any ad comes or goes."""
        self.creatives = creatives
        self._masks = RequestMasks({**self._rows_by, **creatives.rows_by}, self.known_rows)

    def __len__(self) -> int:
        return len(self.item_ids)

    def insert(self, item: CatalogueItem, sid: Sid) -> int:
        """A row for an ad that is new, or that has changed; returns its number. Nothing is served of it yet."""
        if self.targeting is not None:
            self.targeting.put(len(self.item_ids), item.targeting)
        if self.creatives is not None:
            self.creatives.put({**item.features, **item.model_dump(mode="json", exclude={"features", TARGETING})})
        owner, told = Owner(item.advertiser, item.campaign or None, item.category), codes_of(item, self._told)
        row = self._put(item.item_id, (*sid, *told), item.title, item.price, item.ecpm, owner)
        self.sids.put(item.item_id, sid, told)
        return row

    def given_to(self, row: int, advertiser: str | None, campaign: str | None) -> int:
        """A row for an ad that changes hands, in all else like `row`; None leaves who it is of, empty is nobody."""
        before = self.owner_of(row)
        if self.targeting is not None:
            self.targeting.copy(row, len(self.item_ids))
        if self.creatives is not None:
            self.creatives.copy(row, advertiser)
        owner = Owner(_other(before.advertiser, advertiser), _other(before.campaign, campaign), before.category)
        item_id, title, price, ecpm = self.item_ids[row], self._title[row], self._price[row], self._ecpm[row]
        return self._put(item_id, tuple(self.codes(np.array([row]))[0].tolist()), title, price, ecpm, owner)

    def _put(
        self, item_id: str, code_X: tuple[int, ...], title: str, price: float | None, ecpm: float | None, owner: Owner
    ) -> int:
        row = len(self.item_ids)
        for name, value in owner._asdict().items():
            if value is not None:
                self._rows_by[name][value] = np.append(self._rows_by[name].get(value, NO_ROWS), row)
        self._title.append(title)
        self._price.append(price)
        self._ecpm.append(ecpm)
        self._advertiser.append(owner.advertiser)
        self._campaign.append(owner.campaign)
        self._category.append(owner.category)
        self._inserted.append(code_X)
        self.item_ids.append(item_id)  # from here on the row exists
        self.row_of[item_id] = row
        return row

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """int64, the rows of items, servable or not; -1 for an unknown one."""
        return np.fromiter(map(self.row_of.get, item_ids, repeat(-1)), np.int64, len(item_ids))

    def known_rows(self, item_ids: Iterable[str]) -> np.ndarray:
        """int64, the rows of those items that have one."""
        row = self.rows(list(item_ids))
        return row[row >= 0]

    def codes(self, row_H: np.ndarray) -> np.ndarray:
        """int32 [H, X], the semantic IDs of rows, and behind them the declared features that the model is told."""
        bundled = len(self._code_RX)
        code_HX: np.ndarray
        if not len(row_H) or int(row_H.max()) < bundled:
            code_HX = self._code_RX[row_H]
            return code_HX
        code_HX = self._code_RX[np.minimum(row_H, bundled - 1)]
        for place in (row_H >= bundled).nonzero()[0]:
            code_HX[place] = self._inserted[int(row_H[place]) - bundled]
        return code_HX

    def item_filter(
        self, blocked: Blocked, seen: Iterable[str], told: Told | None = None, allowed: Allowed = EVERYTHING,
        demands: Demands | None = None,
    ) -> ItemFilter | None:  # fmt: skip
        """A request's filter as the search takes it: ids one by one; advertisers, categories, what alone is allowed,
        what targeting rules leave to a request that has `told` this and what fits its `demands` as a mask. None where
        nothing is left out."""
        allow_R = None if told is None or self.targeting is None else self.targeting.allow(told, len(self))
        if demands is not None and self.creatives is not None:
            allow_R = both(allow_R, self.creatives.allow(demands, len(self)))
        if not blocked and not allowed:
            return None if allow_R is None else ItemFilter(allow_R)
        deny = self.known_rows(blocked.item_ids | frozenset(seen) if blocked.seen else blocked.item_ids)
        return ItemFilter(both(allow_R, self._masks.allow(blocked, allowed, len(self))), deny)

    def rules(self, item_id: str, otherwise: str | None = None) -> str | None:
        """The targeting rules of an ad now, as text; `otherwise` for one that is unknown."""
        row = self.row_of.get(item_id)
        return otherwise if row is None else self._text(row)

    def rows_of(self, advertisers: Iterable[str], campaigns: Iterable[str]) -> np.ndarray:
        """int64, the rows that are of one of these."""
        rows = [self._rows_by["advertiser"].get(name, NO_ROWS) for name in advertisers]
        rows += [self._rows_by[CAMPAIGN].get(name, NO_ROWS) for name in campaigns]
        return np.concatenate([NO_ROWS, *rows])

    def owned_rows(self, kind: str) -> np.ndarray:
        """int64, the rows that are of any advertiser, campaign or category: whichever `kind` names."""
        return np.concatenate([NO_ROWS, *list(self._rows_by[kind].values())])

    def owner(self, item_id: str, otherwise: Owner = Owner()) -> Owner:
        """Whose an ad is now; `otherwise` for one that is unknown."""
        row = self.row_of.get(item_id)
        return otherwise if row is None else self.owner_of(row)

    def owner_of(self, row: int) -> Owner:
        """Whose the ad of a row is, and of what category."""
        return Owner(self._advertiser[row], self._campaign[row], self._category[row])

    def _text(self, row: int) -> str | None:
        return None if self.targeting is None else self.targeting.text(row)

    def creative(self, item_id: str) -> Creative:
        """What an ad is to an exchange now."""
        row = self.row_of.get(item_id)
        return UNDECLARED if row is None or self.creatives is None else self.creatives.of(row)

    def target(self, row: int, rules: Mapping[str, Any]) -> None:
        """Give an ad other targeting rules; {} are none."""
        if self.targeting is not None:
            self.targeting.put(row, rules)

    def ad(self, row: int, score: float, probability: float | None, ecpm: float | None) -> dict[str, Any]:
        """An ad as the response carries it."""
        ad: dict[str, Any] = {"item_id": self.item_ids[row], "title": self._title[row], "price": self._price[row]}
        if advertiser := self._advertiser[row]:
            ad["advertiser"] = advertiser
        if campaign := self._campaign[row]:
            ad["campaign"] = campaign
        ad["sid"], ad["score"], ad["probability"], ad["expected_ecpm"] = self.sid_of(row), score, probability, ecpm
        return ad

    def stored_ecpms(self, rows: Sequence[int]) -> list[float | None]:
        """The eCPMs of rows when they were made; None where nobody said."""
        return [*map(self._ecpm.__getitem__, rows)]

    def popular(self, size: int, prices: Callable[[Sequence[int]], PricesOfPopular | None] | None = None) -> PopularAds:
        """The `size` most popular ads of the bundle, ready to be filtered; `prices` of their rows say what they are
        worth."""
        rows = self._popular_rows[:size].tolist()
        return PopularAds(
            [
                (self.ad(row, 1.0 / (1 + place), None, self._ecpm[row]), self._advertiser[row], self._category[row])
                for place, row in enumerate(rows)
            ],
            self.is_unchanged,
            self.index,
            None if prices is None else prices(rows),
            {self.item_ids[row]: text for row in rows if (text := self._text(row)) is not None},
            self,
            {} if self.creatives is None else {self.item_ids[row]: self.creatives.of(row) for row in rows},
        )

    def popular_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """int64, the rows that were live in the bundle, most popular first; and the others, newest first."""
        since = np.arange(len(self.item_ids) - 1, len(self.sids_RT) - 1, -1)
        return self._popular_rows, np.concatenate([since, (~self.live_R).nonzero()[0]])

    def is_current(self, row: int) -> bool:
        """Whether a row is that of its ad now, and the ad may be shown."""
        item_id = self.item_ids[row]
        return self.row_of.get(item_id) == row and self.index.is_live(item_id)

    def is_unchanged(self, item_id: str) -> bool:
        """Whether an ad of the bundle is live and still what the bundle says, its eCPM aside."""
        return self.index.is_live(item_id) and self.row_of[item_id] < len(self.sids_RT)

    def sid_of(self, row: int) -> list[int]:
        """The semantic ID of a row; empty for one that has none."""
        bundled = len(self.sids_RT)
        if row >= bundled:
            return list(self._inserted[row - bundled][: self.sids_RT.shape[1]])
        sid: list[int] = self.sids_RT[row].tolist()
        return sid


def _rows_by_value(values: Sequence[str | None]) -> dict[str, np.ndarray]:
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value is not None:
            rows.setdefault(value, []).append(row)
    return {value: np.array(held, np.int64) for value, held in rows.items()}


def _other(before: str | None, given: str | None) -> str | None:
    return before if given is None else given or None


def _valued_by(table: pa.Table, popularity: Mapping[str, float]) -> pa.Table:
    """The catalogue with counts in the place of eCPMs."""
    counts = pa.array([float(popularity.get(item, 0)) for item in table.column("item_id").to_pylist()])
    return table.set_column(table.column_names.index("ecpm"), "ecpm", counts)


def _popular_rows(table: pa.Table, live_R: np.ndarray) -> np.ndarray:
    name = next(name for name in POPULARITY_COLUMNS if name in table.column_names)
    popularity_R = np.nan_to_num(table.column(name).to_numpy().astype(float), nan=-1.0)
    order = np.argsort(-popularity_R, kind="stable")
    live: np.ndarray = order[live_R[order]]
    return live
