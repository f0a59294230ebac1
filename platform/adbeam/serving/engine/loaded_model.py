"""The loaded model: what a replica decodes with, and everything it takes over when another comes into force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder, Widths
from adbeam.bundle_settings import BundleSettings
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.live import HeardEcpm, Live, LiveEcpm
from adbeam.catalogue.owners import HeardOwners, KnownOwners, Owner
from adbeam.catalogue.popular import PopularAds
from adbeam.declared.encoder import FeatureEncoder, ToldCodes
from adbeam.decoding.trie.paths import Step
from adbeam.errors import UserError
from adbeam.identity.people import NOBODY_WORDS
from adbeam.list_rules.caps import Worn
from adbeam.serving.engine.list_rules.left_out import Why
from adbeam.serving.engine.precision_choice import AS_DECLARED, PrecisionChoice
from adbeam.serving.engine.prices import MoneyUnit
from adbeam.serving.engine.request import Answer, Query
from adbeam.targeting.heard import HeardRules, KnownRules, is_for
from adbeam.targeting.told import Told


class Engine(Protocol):
    """What the loop decodes with."""

    @property
    def version(self) -> str:
        """Model version of the answers."""

    def prepare_thread(self) -> None:
        """Called once in the thread that will decode."""

    def answer(self, queries: Sequence[Query], schedules: Sequence[Widths]) -> list[Answer]:
        """One answer a query, searched with its beam widths."""

    def close(self) -> None:
        """Release what it holds."""

    def path(self, sid: Sequence[int]) -> list[Step]:
        """How the live catalogue narrows along a semantic ID; raises UserError when it does not fit the codebooks."""


@dataclass(frozen=True)
class ModelFacts:
    """What a replica must know of a model to plan with it, wherever it decodes."""

    version: str
    cost: BatchCost
    full_widths: Widths
    quality: dict[Widths, float] | None
    scenes: tuple[str, ...]
    money: MoneyUnit = "target"
    """Where prices come from."""
    nobody_words: frozenset[str] = NOBODY_WORDS
    """User ids that mean nobody, as the log of the model had them."""
    told: FeatureEncoder | None = None
    """What makes codes of what requests tell, where the model is told anything."""
    precision: PrecisionChoice = AS_DECLARED
    """What it decodes in, and why."""

    def told_by(self, query: Query) -> ToldCodes | None:
        """What a request that is not decoded would have told the model; nothing is known of its user."""
        if self.told is None or query.told is None:
            return None
        return ToldCodes(self.told.codes([query.told.features])[0], self.told.fingerprint)

    @property
    def may_bid(self) -> bool:
        """Whether prices are money of a thousand impressions; nothing is bid where they are not."""
        return self.money != "target"


@dataclass(frozen=True)
class LoadedModel:
    """Everything a replica takes over when a model comes into force."""

    engine: Engine
    facts: ModelFacts
    popular_ads: PopularAds
    loaded_s: float
    live: Live | None = None
    """What keeps the ads on the update log, where there is one."""
    live_ecpm: LiveEcpm = field(default_factory=HeardEcpm)
    rules: KnownRules = field(default_factory=HeardRules)
    """Targeting rules of ads as they are now."""
    owners: KnownOwners = field(default_factory=HeardOwners)
    """Whose ads are now."""
    worn: Callable[[Sequence[Query]], list[Worn]] | None = None
    """What the users of queries have seen enough of, by frequency caps; may be called from any thread."""
    why: Callable[[Query, Sequence[str]], Why] | None = None
    """What rules make of a query and these ads; may be called from any thread."""
    campaigns: Callable[[Sequence[str]], list[str | None]] | None = None
    """The campaign of each ad now; may be called from any thread."""

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.facts.version

    def ladder(self, policy: BeamPolicyConfig) -> Ladder:
        """The rungs of this model under a policy."""
        return Ladder.build(self.facts.full_widths, self.facts.cost, self.facts.quality, policy.ladder)

    def popular(self, blocked: Blocked, count: int, scene: str = "", told: Told | None = None) -> list[dict[str, Any]]:
        """Popular ads for a request that is not decoded and has `told` this."""
        return self.popular_ads.pick(blocked, count, scene, told)

    def is_worth_bidding(self, item_id: str) -> bool:
        """Whether an ad may be bid: not one whose live eCPM is 0."""
        return self.live_ecpm.ecpm(item_id) != 0

    def without_dead(self, ads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The ads of an earlier answer that may still be shown."""
        return ads if self.live is None else [ad for ad in ads if self.live.is_live(ad["item_id"])]

    def still_shown(self, answer: Answer, told: Told | None) -> list[dict[str, Any]]:
        """The ads of an earlier answer that may still be shown, to a request that has `told` this; not those that
        are of somebody else now."""
        before, now = answer.rules, self.rules.rules
        return [
            ad
            for ad in self.without_dead(answer.ads)
            if is_for(now(ad["item_id"], before.get(ad["item_id"])), told) and self._is_still_of(ad, answer)
        ]

    def _is_still_of(self, ad: dict[str, Any], answer: Answer) -> bool:
        if self.live is None:
            return True
        then = Owner(ad.get("advertiser"), ad.get("campaign"), answer.categories.get(ad["item_id"]))
        owner = self.owners.owner(ad["item_id"], then)
        if owner is then:
            return True
        return owner.named() == then.named() and (not answer.categories or owner.category == then.category)


class OtherCurrency(UserError):
    """A bundle whose money is not the money of the bids: the settings are wrong, and no other bundle mends them."""


def check_currency(settings: BundleSettings, version: str, bid: str) -> None:
    """Raise OtherCurrency where the bundle `version` declares another currency than `bid`, which bids are made in."""
    if settings.currency is not None and settings.currency != bid:
        raise OtherCurrency(
            f"bundle {version} has its money in {settings.currency}, and bids are made in {bid}",
            field="openrtb.currency",
            value=bid,
            remedy=f"set openrtb.currency to {settings.currency}, or export with the log's own logs.currency",
        )
