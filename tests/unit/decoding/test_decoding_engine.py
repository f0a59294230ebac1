"""Precision, compilation and the reading of contexts."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from tests.support.decoding_samples import CONFIG, catalogue, context_of, model_of

from adbeam.decoding import Decoder, Trie
from adbeam.decoding.engines.buffers import Buffers, StepStore
from adbeam.decoding.engines.context_reader import ContextReader
from adbeam.decoding.engines.precision import Int8Linear, Precision, linear
from adbeam.decoding.engines.self_attention import compiled_or_plain


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.15), ("int8", 0.15)])
def test_low_precision_stays_close_and_keeps_most_of_the_list(precision: Precision, tolerance: float) -> None:
    model, trie, context = model_of(), Trie.build(catalogue(), CONFIG.codebooks), context_of(CONFIG, 6)
    reference = Decoder(model, trie, order_by="log_probability").decode(context, [(32, 768, 200)] * 6)
    low = Decoder(model, trie, order_by="log_probability", precision=precision).decode(context, [(32, 768, 200)] * 6)
    for exact, rough in zip(reference, low, strict=True):
        score = {tuple(sid): value for sid, value in zip(exact.sids_nT.tolist(), exact.log_probability_n, strict=True)}
        shared = [(score[tuple(s)], v) for s, v in zip(rough.sids_nT.tolist(), rough.log_probability_n, strict=True)
                  if tuple(s) in score]  # fmt: skip
        assert len(shared) >= 0.9 * exact.size
        assert all(abs(value - other) < tolerance for value, other in shared)


def test_int8_forms_agree_with_their_float_weights() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 16), torch.randn(24), torch.randn(5, 16)
    exact = torch.nn.functional.linear(x, weight, bias)
    for product in (Int8Linear(weight, bias), linear(weight, bias, "int8")):
        assert torch.allclose(product.into(torch.empty(5, 24), x), exact, atol=0.2)
        total = torch.ones(5, 24)
        product.add_to(total, x)
        assert torch.allclose(total, exact + 1, atol=0.2)
    assert Int8Linear(weight, bias).weight_OI.dtype == torch.int8


def test_failed_compilation_is_said_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> object:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    call = compiled_or_plain(lambda x: x + 1)
    with caplog.at_level(logging.WARNING):
        assert call(torch.ones(1)).item() == 2 and call(torch.ones(1)).item() == 2
    assert sum("no compiler here" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("separate_values", [False, True])
def test_the_reader_gives_the_models_keys_and_values_where_tokens_are(separate_values: bool) -> None:
    config = CONFIG.model_copy(update={"separate_values": separate_values})
    model, context = model_of(config), context_of(config, 5)
    with torch.inference_mode():
        for mask_BS in (torch.ones_like(context.mask_BS), context.mask_BS, context.mask_BS & (torch.arange(11) < 5)):
            masked = replace(context, mask_BS=mask_BS)
            exact, fast = model.encode(masked), ContextReader(model).read(masked)
            place = mask_BS.any(0).nonzero()[:, 0]
            assert torch.equal(fast.mask_BS, mask_BS[:, place])
            for found, wanted in ((fast.key_BLGSd, exact.key_BLGSd), (fast.value_BLGSd, exact.value_BLGSd)):
                there = fast.mask_BS[:, None, None, :, None]
                assert torch.allclose(found * there, wanted.index_select(3, place) * there, atol=1e-5)


def test_buffers_are_kept_and_steps_are_appended() -> None:
    buffers = Buffers(torch.float32, torch.device("cpu"))
    first = buffers.take("x", 4, 3)
    assert buffers.take("x", 2, 3).data_ptr() == first.data_ptr() and buffers.take("x", 4, 3) is first
    assert buffers.take("x", 9, 3).shape == (9, 3) and buffers.take("y", 1, 1).shape == (1, 1)
    store = StepStore(2, 3, torch.float32, torch.device("cpu"))
    assert store.append(2) == 0
    store.layer(1)[0:2] = 7.0
    assert store.append(5) == 2 and store.used == 7 and bool((store.layer(1)[:2] == 7.0).all())
    store.clear()
    assert store.append(1) == 0
