"""Constrained beam search over live semantic IDs: the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adbeam.imports.lazy import names_of

if TYPE_CHECKING:
    from adbeam.decoding.decoder import Decoder
    from adbeam.decoding.exhaustive import brute_force, score_all
    from adbeam.decoding.masks.filters import ItemFilter
    from adbeam.decoding.results import DecodeResult
    from adbeam.decoding.trie.trie import Trie

__all__ = ["DecodeResult", "Decoder", "ItemFilter", "Trie", "brute_force", "score_all"]

# Late: `adbeam.decoding.config` is read by every job, and the search would load torch.
__getattr__ = names_of(
    __name__,
    {
        "DecodeResult": "adbeam.decoding.results",
        "Decoder": "adbeam.decoding.decoder",
        "ItemFilter": "adbeam.decoding.masks.filters",
        "Trie": "adbeam.decoding.trie.trie",
        "brute_force": "adbeam.decoding.exhaustive",
        "score_all": "adbeam.decoding.exhaustive",
    },
)
