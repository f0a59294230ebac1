"""Methods and headers of HTTP as clients use them, through a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
import uvicorn
from tests.support.echo_service import EchoService

from adbeam.serving.http.app import build_api

BODY = json.dumps({"id": "r", "imp": [{"id": "1"}]}).encode()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(build_api(EchoService()), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def test_head_says_what_get_says_without_its_body(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    said = {}
    for method in ("GET", "HEAD", "GET"):  # the connection stays usable
        connection.request(method, "/healthz")
        reply = connection.getresponse()
        said[method] = (reply.status, reply.headers["content-length"], len(reply.read()))
    assert said["HEAD"] == (*said["GET"][:2], 0)


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/openrtb", {"POST"}), ("/v1/ads", {"POST"}), ("/healthz", {"GET", "HEAD"})]
)
def test_options_names_the_methods_and_others_are_405(port: int, path: str, allowed: set[str]) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    for method, status in (("OPTIONS", 204), ("PUT", 405)):
        connection.request(method, path)
        reply = connection.getresponse()
        reply.read()
        assert reply.status == status
        assert {*reply.headers["allow"].split(", ")} - {"OPTIONS"} == allowed


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        head = f"POST /v1/openrtb HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(BODY)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_slow_body_is_waited_for_and_the_connection_kept(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(2):
            client.sendall(f"POST /v1/openrtb HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode())
            for byte in BODY:
                client.sendall(bytes([byte]))
            reply = b""
            while b"granted_ms" not in reply:
                reply += client.recv(1000)
            assert reply.startswith(b"HTTP/1.1 200 ")
