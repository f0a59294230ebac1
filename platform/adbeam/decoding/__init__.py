"""Constrained beam search over live semantic IDs: the hot path."""

from adbeam.decoding.decoder import Decoder
from adbeam.decoding.exhaustive import brute_force, score_all
from adbeam.decoding.filters import ItemFilter
from adbeam.decoding.results import DecodeResult
from adbeam.decoding.trie import Trie

__all__ = ["DecodeResult", "Decoder", "ItemFilter", "Trie", "brute_force", "score_all"]
