"""Which categorical features a context has, and the size of each vocabulary: a fixed function of a model's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

SCENES = 64
"""Hash buckets of the scene."""
ACTIVITY = 16
"""Buckets of the number of events in the history, two a factor of 4."""
RECENCY = 24
"""Buckets of a time since, two a factor of 2, from one hour up."""
COUNT = 16
"""Buckets of how often an item was seen: 1, 2, 3, 4, then two a factor of 2."""
DUE = 16
"""Buckets of time since last / mean interval; 0 where there was one occurrence only."""
SHARE = 34
"""Buckets of an ad's share of the conversions of a window, two a factor of 2 from 2^-16 up; 0 is none."""
MATCH = 8
"""Buckets of how many history tokens lie under a prefix of an ad: 0, 1, 2, 3, 4, then one a factor of 2."""
VALUE = 16
"""Buckets of the value, one a factor of 2 from 1/8 up; 0 is no value."""
DECLARED = "told."
"""How static features that the log's owner declared are named, so that none hides one of ours."""


class ModelShape(Protocol):
    """The settings that features follow; `model.config.ModelConfig` has them, and this room knows no model."""

    @property
    def levels(self) -> int: ...
    @property
    def short_length(self) -> int: ...
    @property
    def long_length(self) -> int: ...
    @property
    def trending_length(self) -> int: ...
    @property
    def user_buckets(self) -> int: ...
    @property
    def item_buckets(self) -> int: ...
    @property
    def prefix_buckets(self) -> int: ...
    @property
    def told(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def told_items(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def order_only(self) -> bool: ...


@dataclass(frozen=True)
class FeatureSpec:
    """Vocabulary sizes of the features, in the order of their columns."""

    static: dict[str, int]
    token: dict[str, int]
    hashed: dict[str, int]
    """Features that the model derives from the codes of a token."""
    levels: int
    short_length: int
    long_length: int
    trending_length: int = 0
    trend: dict[str, int] = field(default_factory=dict)
    """Features of a trending ad."""
    lists: dict[str, int] = field(default_factory=dict)
    """How many columns each static feature has that is a list; in all but the first, 0 stands for nothing."""
    token_lists: dict[str, int] = field(default_factory=dict)
    """How many columns each token feature has that is a list; they come last, with the other declared ones of items."""
    order_only: bool = False
    """Whether contexts tell codes and actions in their order and nothing else."""

    @classmethod
    def of(cls, config: ModelShape) -> Self:
        """The features of a model of this shape."""
        told = sorted(config.told.items())  # a shape that was stored has lost their order
        of_items = sorted(config.told_items.items())
        return cls(
            static={"scene": SCENES, "weekday": 7, "hour": 24, "user": config.user_buckets, "activity": ACTIVITY}
            | {DECLARED + name: size for name, (size, _) in told},
            token={
                "pathway": 3,
                "action": 4,
                "kind": 2,
                "recency": RECENCY,
                "count": COUNT,
                "due": DUE,
                "value": VALUE,
            }
            | {DECLARED + name: size for name, (size, _) in of_items},
            hashed={"prefix": config.prefix_buckets, "item": config.item_buckets},
            levels=config.levels,
            short_length=config.short_length,
            long_length=config.long_length,
            trending_length=config.trending_length,
            trend={"day": SHARE, "three_days": SHARE, "week": SHARE} if config.trending_length else {},
            lists={DECLARED + name: columns for name, (_, columns) in told if columns > 1},
            token_lists={DECLARED + name: columns for name, (_, columns) in of_items if columns > 1},
            order_only=config.order_only,
        )

    @property
    def context_length(self) -> int:
        """S: one static token, the short and the long pathway."""
        return 1 + self.short_length + self.long_length

    @property
    def static_sizes(self) -> list[int]:
        """Vocabulary size of each column F of the static features."""
        return [size for name, size in self.static.items() for _ in range(self.lists.get(name, 1))]

    @property
    def token_sizes(self) -> list[int]:
        """Vocabulary size of each column C of the token features."""
        return [size for name, size in self.token.items() for _ in range(self.token_lists.get(name, 1))]

    @property
    def own_token(self) -> dict[str, int]:
        """The token features that every model has: the first columns."""
        return {name: size for name, size in self.token.items() if not name.startswith(DECLARED)}

    @property
    def wide_token(self) -> bool:
        """Whether a token feature has more codes than a byte tells apart."""
        return max(self.token.values()) > 256

    @property
    def static_rows(self) -> int:
        """Rows of the table that holds all static features."""
        return sum(self.static.values())

    @property
    def token_rows(self) -> int:
        """Rows of the table that holds all token features, the hashed ones behind the others."""
        return sum(self.token.values()) + sum(self.hashed.values())

    @property
    def static_offsets(self) -> list[int]:
        """First row of each column of the static features; columns of one list share their rows."""
        starts = zip(self.static, _starts(list(self.static.values())), strict=True)
        return [start for name, start in starts for _ in range(self.lists.get(name, 1))]

    @property
    def further_of_list(self) -> list[bool]:
        """Of each column of the static features whether it is a further one of a list, where 0 stands for nothing."""
        return [place > 0 for name in self.static for place in range(self.lists.get(name, 1))]

    @property
    def token_offsets(self) -> list[int]:
        """First row of each column of the token features, the hashed ones behind the others."""
        starts = _starts([*self.token.values(), *self.hashed.values()])
        named = zip([*self.token, *self.hashed], starts, strict=True)
        return [start for name, start in named for _ in range(self.token_lists.get(name, 1))]

    def as_dict(self) -> dict[str, Any]:
        """What a bundle stores; `from_dict` reads it."""
        new = ("lists", "token_lists", "order_only")  # told where they say something: else as before it knew them
        return {name: value for name, value in asdict(self).items() if value or name not in new}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The spec that `as_dict` stored."""
        return cls(**stored)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:place]) for place in range(len(sizes))]
