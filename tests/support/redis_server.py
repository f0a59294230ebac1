"""A real Redis for a test: on a port of its own, in a folder of its own, gone at the end."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.support.tools import tool


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def redis_server(folder: Path, port: int, *options: str) -> Iterator[str]:
    """Yields its URL without a database number; `options` are those of redis-server, such as "--requirepass", "x"."""
    command = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    client = redis.Redis(port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.ping()
            return
        except redis.AuthenticationError:
            return
        except redis.RedisError:
            time.sleep(0.05)
    raise AssertionError("redis-server did not start")
