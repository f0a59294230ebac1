"""Authentication and rate limits: who may call, and how often; API keys or bearer tokens, and a token bucket a key."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from adbeam.errors import UserError
from adbeam.serving.config import AdminConfig, AuthConfig, LimitsConfig

ANYONE = ""
MAX_BUCKETS = 10_000
"""Callers remembered: a bound on memory; whoever is forgotten begins again with a full bucket."""


class Authenticator:
    """Checks the credentials of a request. Raises UserError at start when keys are wanted and none are given."""

    def __init__(self, config: AuthConfig | AdminConfig) -> None:
        self.mode = config.mode
        self.header = config.header.lower() if isinstance(config, AuthConfig) else ""
        self._digests = [] if config.mode == "none" else [_digest(key) for key in _read_keys(config)]

    def caller(self, headers: Mapping[str, str]) -> str | None:
        """A stable name of the caller (no secret), or None when the credentials are missing or wrong."""
        if self.mode == "none":
            return ANYONE
        given = _digest(self._credential(headers))
        matches = [hmac.compare_digest(given, known) for known in self._digests]  # every key: constant time
        return given.hex()[:12] if any(matches) else None

    @property
    def challenge(self) -> dict[str, str]:
        """The header that tells a refused client what to send."""
        return {"WWW-Authenticate": "Bearer" if self.mode == "bearer" else f'ApiKey header="{self.header}"'}

    def _credential(self, headers: Mapping[str, str]) -> str:
        if self.mode == "api_key":
            return headers.get(self.header, "")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


class RateLimit:
    """A token bucket for each caller; `clock` counts seconds."""

    def __init__(self, limits: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = limits.requests_per_second, float(limits.burst_requests), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, caller: str) -> bool:
        """Take a token from the caller's bucket; false when it is empty."""
        if self._rate is None:
            return True
        now = self._clock()
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return allowed


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_keys(config: AuthConfig | AdminConfig) -> list[str]:
    remedy = f"set {config.keys_env} to comma-separated keys, or name a keys_file"
    if config.keys_file is not None:
        try:
            keys = config.keys_file.read_text(encoding="utf-8").split()
        except OSError as error:
            raise UserError(
                f"cannot read it: {error.strerror}", field=f"{_section(config)}.keys_file", remedy=remedy
            ) from None
    else:
        keys = [key.strip() for key in os.environ.get(config.keys_env, "").split(",") if key.strip()]
    if not keys:
        raise UserError("no keys are given", field=_section(config), value=config.mode, remedy=remedy)
    return keys


def _section(config: AuthConfig | AdminConfig) -> str:
    return "auth" if isinstance(config, AuthConfig) else "admin"
