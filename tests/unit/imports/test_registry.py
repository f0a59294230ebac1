"""Registries: names of settings and the parts behind them."""

from __future__ import annotations

import pytest

from adbeam.beams.config import BeamPolicyConfig
from adbeam.errors import UserError
from adbeam.imports.extension_points import KINDS, QUANTIZERS
from adbeam.imports.registry import Registry


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"tokens\.quantizer\.method.*rq_kmean.*did you mean 'rq_kmeans'"):
        QUANTIZERS.load("rq_kmean")
    with pytest.raises(
        UserError, match=r"policy: policy: there is none of that name; did you mean 'deadline'.*'dedline'"
    ):
        BeamPolicyConfig.parse({"policy": "dedline"}, source="policy")


@pytest.mark.parametrize("registry", KINDS, ids=lambda registry: str(registry.group))
def test_every_name_has_its_part(registry: Registry) -> None:
    assert registry.names
    for name in registry.names:
        part = registry.load(name)
        assert callable(part)
        assert getattr(part, "kind", getattr(part, "method", name)) == name


def test_every_kind_has_a_group_and_a_field_of_its_own() -> None:
    assert len({registry.group for registry in KINDS}) == len({registry.field for registry in KINDS}) == len(KINDS) == 8


def test_a_setting_that_is_left_out_is_described_as_before() -> None:
    assert "options" not in BeamPolicyConfig().model_dump()
    assert BeamPolicyConfig(options={"a": 1}).model_dump()["options"] == {"a": 1}
