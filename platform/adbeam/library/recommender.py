"""A bundle in this process, offline: the ads that the endpoint would answer with at full width, without an endpoint.

It decodes with the very engine of a replica and reads requests by the same schema, so answers and refusals are those of
`POST /v1/ads`. What concerns load (deadlines, narrower beams, budgets) has no meaning here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from pydantic import ValidationError
from pydantic_core import to_json

from adbeam.bundle import Bundle, load_bundle
from adbeam.declared.agreement import check_told
from adbeam.errors import UserError
from adbeam.identity.people import words_of
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import Query
from adbeam.serving.http.schemas import request_model
from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.sqlite import SqliteStore

BATCH = 16
MINUTE_MS = 60_000

Ad = dict[str, Any]
HistoryItem = str | Mapping[str, Any]
"""An item id, which stands for a conversion, or an event as `POST /v1/ads` takes it."""


class Recommender:
    """Turns requests into ads. Not for several threads at once."""

    def __init__(self, bundle: Bundle, config: ServingConfig, has_store: bool = False) -> None:
        """`has_store` opens the history store that `config` names; without one every `user_id` is an unknown user."""
        check_told(bundle.told, bundle.version, config.features)
        self._folder = None if has_store else TemporaryDirectory(prefix="adbeam-")
        store = open_store(config.store) if self._folder is None else SqliteStore(Path(self._folder.name, "none"))
        self._store, self._nobody = store, words_of(bundle.settings.nobody_words)
        self._engine = ModelEngine(
            bundle, config.engine, store, _Unheard(), config.features, config.list_rules.most, config.frequency_caps
        )
        widths = self._engine.full_widths
        self._request = request_model(config.limits, config.deadline, self._engine.scenes, widths, config.features)

    @classmethod
    def load(cls, bundle: str | Path | Bundle, settings: Mapping[str, Any] | None = None) -> Self:
        """The recommender of a bundle, or of the folder whose CURRENT names one.

        `settings` are keys of an application's `args:` in serving's YAML (docs/configuration.md): `features`,
        `list_rules`, `frequency_caps`, `engine`, `limits`, and `store` where users are asked for by id. Raises
        UserError naming what is wrong with the bundle or the settings.
        """
        given = dict(settings or {})
        config = ServingConfig.parse(given, source="settings")
        loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        return cls(loaded, config, has_store="store" in given)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self._engine.version

    @property
    def scenes(self) -> tuple[str, ...]:
        """Where ads may appear, as the bundle knows it; the first one is the default."""
        return self._engine.scenes

    def recommend(
        self, history: Iterable[HistoryItem] | None = None, count: int = 10, *, scene: str | None = None, **request: Any
    ) -> list[Ad]:
        """The best `count` ads in falling order of score, as the endpoint gives them.

        `history` are the user's events, oldest first; item ids alone stand for conversions, the last one a minute ago
        and each a minute after the one before it. `request` takes the other fields of `POST /v1/ads`: `user_id`,
        `filters`, `context`, `user`, `timestamp`, `floor_ecpm`. Raises UserError naming the field that is wrong.
        """
        now_ms = request.setdefault("timestamp", int(time.time() * 1000))
        events = None if history is None else _events(list(history), now_ms)
        return self.recommend_many([{**request, "history": events, "count": count, "scene": scene}])[0]

    def recommend_many(self, requests: Sequence[Mapping[str, Any]]) -> list[list[Ad]]:
        """The ads of each request, whose fields are those of a `POST /v1/ads` body; decoded in batches."""
        queries = [self._query(request, place) for place, request in enumerate(requests)]
        found: list[list[Ad]] = []
        for start in range(0, len(queries), BATCH):
            part = queries[start : start + BATCH]
            found += [answer.ads for answer in self._engine.answer(part, [self._engine.full_widths] * len(part))]
        return found

    def _query(self, request: Mapping[str, Any], place: int) -> Query:
        try:
            asked = self._request.model_validate_json(to_json(dict(request)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UserError(f"request {place}: {first['msg']}", field=field, value=first.get("input"),
                            remedy="the fields are those of POST /v1/ads, docs/api.md") from None  # fmt: skip
        return asked.query(self.scenes[0], int(time.time() * 1000), self._nobody)


class _Unheard:
    """A recorder of metrics that nobody reads."""

    def add(self, name: str, value: float = 1.0, **tags: str) -> None:
        """Nothing."""

    def observe(self, name: str, value: float, **tags: str) -> None:
        """Nothing."""

    def set(self, name: str, value: float, **tags: str) -> None:
        """Nothing."""


def _events(history: Sequence[HistoryItem], now_ms: int) -> list[dict[str, Any]]:
    """`history` as the endpoint takes it: ids alone become conversions a minute apart."""
    first_ms = now_ms - len(history) * MINUTE_MS
    return [
        {"item_id": event, "timestamp": first_ms + place * MINUTE_MS} if isinstance(event, str) else dict(event)
        for place, event in enumerate(history)
    ]
