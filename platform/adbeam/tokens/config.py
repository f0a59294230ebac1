"""Settings of tokenization."""

from __future__ import annotations

from adbeam.settings import Section


class TokensConfig(Section):
    """How a catalogue becomes semantic IDs."""
