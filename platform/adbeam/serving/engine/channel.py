"""Calls between a replica and its decode process: one call at a time over a socket pair, and the metrics it caused.

Both ends are one program on one machine, started by the same user; nothing else can reach the sockets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from adbeam.errors import UserError
from adbeam.recorder import Recorder

logger = logging.getLogger(__name__)

Recorded = tuple[str, str, float, dict[str, str]]


class Reply(NamedTuple):
    """What a call came to: a value or an error, and what was recorded meanwhile."""

    value: Any
    error: Exception | None
    recorded: list[Recorded]


class EngineGone(RuntimeError):
    """The decode process has ended."""


class Gathered:
    """A Recorder whose values travel with the next reply."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorded: list[Recorded] = []

    def add(self, name: str, value: float = 1.0, **tags: str) -> None:
        """Raise a counter."""
        self._keep("add", name, value, tags)

    def observe(self, name: str, value: float, **tags: str) -> None:
        """One observation of a histogram."""
        self._keep("observe", name, value, tags)

    def set(self, name: str, value: float, **tags: str) -> None:
        """The present value of a gauge."""
        self._keep("set", name, value, tags)

    def taken(self) -> list[Recorded]:
        """All since the last call."""
        with self._lock:
            recorded, self._recorded = self._recorded, []
        return recorded

    def _keep(self, kind: str, name: str, value: float, tags: dict[str, str]) -> None:
        with self._lock:
            self._recorded.append((kind, name, value, tags))


class Caller:
    """The replica's end."""

    def __init__(self, connection: Connection, metrics: Recorder) -> None:
        self._connection, self._metrics = connection, metrics
        self._one_at_a_time = threading.Lock()

    def call(self, name: str, *arguments: Any) -> Any:
        """The answer; raises what the call raised, or EngineGone when the other end has ended."""
        with self._one_at_a_time:
            try:
                self._connection.send((name, arguments))
                reply: Reply = self._connection.recv()
            except (EOFError, OSError) as error:
                raise EngineGone(f"the decode process has ended ({error or 'closed'})") from None
        for kind, metric, value, tags in reply.recorded:
            getattr(self._metrics, kind)(metric, value, **tags)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def close(self) -> None:
        """Give the connection up; a call under way raises EngineGone once the other end has ended."""
        with self._one_at_a_time:
            self._connection.close()


def answer_calls(connection: Connection, functions: dict[str, Callable[..., Any]], metrics: Gathered) -> None:
    """The decode process's end: answer until the other end is closed."""
    while True:
        try:
            name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        value: Any = None
        error: Exception | None = None
        try:
            value = functions[name](*arguments)
        except UserError as expected:
            error = expected
        except Exception as unexpected:
            logger.exception("%s failed in the decode process", name)
            error = RuntimeError(f"{name} failed in the decode process: {unexpected!r}")
        connection.send(Reply(value, error, metrics.taken()))
