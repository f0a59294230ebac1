"""What the engine is compared with: replicated keys and values, bare matrix products, Hugging Face generate.

Shapes: B requests, R rows, W beams, G context heads, S context, d head width, D width, V codebook, T levels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.engines.lazyar import LazyAREngine, LazyARState
from adbeam.decoding.engines.weights import LayerWeights
from adbeam.decoding.layout import Layout
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.decoding.trie.trie import Trie
from adbeam.model.config import ModelConfig


class ReplicatedEngine(LazyAREngine):
    """A decoder that lays beams along the batch: every beam reads a copy of its request's keys and values."""

    def _read_context(self, query_RD: Tensor, layer: LayerWeights, state: LazyARState, layout: Layout) -> Tensor:
        copies: dict[Any, Tensor] = state.__dict__.setdefault("copies", {})
        if copies.get("rows") is not layout.request_R:
            copies.clear()
            copies["rows"] = layout.request_R
        if layer.context_group not in copies:
            copies[layer.context_group] = state.key_BLGSd[:, layer.context_group][layout.request_R]
        key_RGSd = copies[layer.context_group]
        R, G, _, d = key_RGSd.shape
        query = query_RD.view(R, -1, G, d).transpose(1, 2)
        bias = None if state.bias_BS is None else state.bias_BS[layout.request_R, None, None]
        mixed = F.scaled_dot_product_attention(query, key_RGSd, key_RGSd, attn_mask=bias, scale=1.0)
        return mixed.transpose(1, 2).reshape(R, -1)


def one_stage_top_k(score_Bn: Tensor, k: int, chunk: int = 0) -> tuple[Tensor, Tensor]:
    """Top-k over all candidates of all beams at once."""
    return torch.topk(score_Bn, k, dim=1)


def products(config: ModelConfig, batch: int, widths: tuple[int, ...]) -> tuple[list[tuple[int, ...]], float]:
    """(shapes of the matrix products of one decode, their GFLOP)."""
    D, L, K = config.width, config.layers, config.lazy_layers
    shapes: list[tuple[int, ...]] = []

    def layers(rows: int, width: int, count: int) -> None:
        linear = [(rows, D, D)] * 3 + [(rows, D, 3 * D), (rows, D, 4 * D), (rows, 4 * D, D)]
        queries = width * config.heads // config.context_kv_heads
        shapes.extend([*linear, (batch, config.context_kv_heads, queries)] * count)

    layers(batch * (config.levels + 1), config.levels + 1, K)
    for beams, outputs in zip((1, *widths), (*config.codebooks, config.ecpm_buckets), strict=True):
        layers(batch * beams, beams, L - K)
        shapes += [(batch * beams, D, D), (batch * beams, D, outputs)]
    attention = 4.0 * config.context_length * config.head_width
    flop = sum((attention if _is_attention(config, batch, shape) else 2.0) * math.prod(shape) for shape in shapes)
    return shapes, flop / 1e9


def _is_attention(config: ModelConfig, batch: int, shape: tuple[int, ...]) -> bool:
    return shape[0] == batch and shape[1] == config.context_kv_heads


def bare_products(config: ModelConfig, batch: int, widths: tuple[int, ...]) -> tuple[Callable[[], None], float]:
    """(a job that does only the matrix products of one decode, their GFLOP). Operands are reused and stay in cache."""
    shapes, gflop = products(config, batch, widths)
    S, d = config.context_length, config.head_width
    operands: dict[tuple[int, ...], tuple[Tensor, ...]] = {}
    for shape in shapes:
        if _is_attention(config, batch, shape):
            key = torch.randn(*shape[:2], S, d)
            operands[shape] = (torch.randn(*shape, d), key.mT.contiguous(), key)
        else:
            operands[shape] = (torch.randn(shape[:2]), torch.randn(shape[1:]))

    @torch.inference_mode()
    def run() -> None:
        for shape in shapes:
            first, second, *third = operands[shape]
            if third:
                (first @ second) @ third[0]
            else:
                first @ second

    return run, gflop


class VectorMask:
    """The constraint as a user would vectorise it for generate(): a mask over the vocabulary from a trie in tensors."""

    def __init__(self, trie: Trie, first_token: int, levels: int) -> None:
        self.tensors, self.first_token, self.levels = TrieTensors(trie), first_token, levels

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [R, vocabulary] with minus infinity at tokens that may not follow."""
        level, V = input_ids.shape[1] - 1, self.tensors.trie.codebooks[0]
        codes = input_ids[:, 1:] - self.first_token - V * torch.arange(level)
        mask = torch.full_like(scores, float("-inf"))
        if level == 0:
            live = self.tensors.live_mask().nonzero()[:, 0]
            mask[:, self.first_token + live] = 0.0
            return scores + mask
        entry = codes[:, 0].clamp(0, V - 1)
        for t in range(1, level + 1):
            start, length = self.tensors.rows(t - 1, entry)
            place = torch.arange(int(length.max()))
            child = (start[:, None] + place).clamp_max(self.tensors.used(t) - 1)
            code = self.tensors.codes(t, child)
            inside = place < length[:, None]
            if t == level:
                column = self.first_token + V * t + code
                value = torch.where(inside, 0.0, float("-inf"))
                mask.scatter_reduce_(1, column, value, "amax")
            else:
                found = (inside & (code == codes[:, t, None])).int().argmax(dim=1)
                entry = child.gather(1, found[:, None])[:, 0]
        return scores + mask


class HuggingFace:
    """T5's decoder of the same width, depth, codes and context, searched by `generate`; the encoder output is given."""

    FIRST_TOKEN = 2

    def __init__(self, config: ModelConfig, sids_NT: NDArray[np.int32], beams: int, device: str = "cpu") -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        self.config, self.beams, V = config, beams, config.codebooks[0]
        assert all(size == V for size in config.codebooks)
        shape: dict[str, Any] = {
            "vocab_size": self.FIRST_TOKEN + V * config.levels, "d_model": config.width, "d_kv": config.head_width,
            "d_ff": config.ffn_multiple * config.width, "num_heads": config.heads, "num_layers": config.layers,
            "num_decoder_layers": config.layers, "dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1,
            "decoder_start_token_id": 0,
        }  # fmt: skip
        torch.manual_seed(0)
        self.model = T5ForConditionalGeneration(T5Config(**shape)).eval().to(device)
        self.trie = Trie.build(sids_NT, config.codebooks)
        self.allowed: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for sid in self.trie.sids().tolist():
            tokens = [self.FIRST_TOKEN + V * level + code for level, code in enumerate(sid)]
            for level, token in enumerate(tokens):
                known = self.allowed[tuple(tokens[:level])]
                if not known or known[-1] != token:
                    known.append(token)

    def job(self, batch: int, vectorised: bool) -> Callable[[], Tensor]:
        """Generate for `batch` requests, with the dictionary or with the vectorised mask."""
        from transformers import LogitsProcessorList
        from transformers.modeling_outputs import BaseModelOutput

        torch.manual_seed(1)
        context = torch.randn(batch, self.config.context_length, self.config.width).to(self.model.device)
        options: dict[str, Any] = {
            "max_new_tokens": self.config.levels,
            "min_new_tokens": self.config.levels,
            "num_beams": self.beams,
            "num_return_sequences": self.beams,
            "do_sample": False,
        }
        if vectorised:
            mask = VectorMask(self.trie, self.FIRST_TOKEN, self.config.levels)
            options["logits_processor"] = LogitsProcessorList([mask])
        else:
            options["prefix_allowed_tokens_fn"] = lambda _, ids: self.allowed[tuple(ids[1:].tolist())] or [1]

        @torch.inference_mode()
        def run() -> Tensor:
            given = BaseModelOutput(last_hidden_state=context)
            return self.model.generate(encoder_outputs=given, **options)

        return run
