"""Registries: names of settings and the classes behind them."""

from __future__ import annotations

import pytest

from adbeam.errors import UserError
from adbeam.imports.registry import Registry
from adbeam.logs.config import LogsConfig
from adbeam.logs.sources.registry import SOURCES
from adbeam.tokens.config import EmbedderConfig, QuantizerConfig
from adbeam.tokens.embedders.registry import EMBEDDERS
from adbeam.tokens.quantizers.registry import QUANTIZERS


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"tokens\.quantizer\.method.*rq_kmean.*did you mean 'rq_kmeans'"):
        QUANTIZERS.load("rq_kmean")


@pytest.mark.parametrize(
    ("registry", "setting"),
    [
        (SOURCES, LogsConfig.model_fields["source"]),
        (EMBEDDERS, EmbedderConfig.model_fields["kind"]),
        (QUANTIZERS, QuantizerConfig.model_fields["method"]),
    ],
    ids=["sources", "embedders", "quantizers"],
)
def test_every_name_that_a_setting_takes_has_its_class(registry: Registry, setting: object) -> None:
    names = setting.annotation.__args__  # type: ignore[attr-defined]
    assert sorted(registry.names) == sorted(names)
    for name in names:
        kind = registry.load(name)
        assert getattr(kind, "kind", getattr(kind, "method", name)) == name
