"""`adbeam users` against an endpoint that answers what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.errors import UserError


class _Endpoint(ThreadingHTTPServer):
    """Remembers requests and gives one answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.answer: tuple[int, Any] = (200, {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = json.loads(body) if body else None
        self.server.asked.append((self.command, self.path, given, self.headers.get("Authorization")))
        status, answer = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_DELETE = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[_Endpoint]:
    with _Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_profile_is_posted_under_the_callers_key(endpoint: _Endpoint) -> None:
    endpoint.answer = 200, {"stored": 1, "removed": 0, "nobody": 0}
    asked = ["users", "set", "u17", "--profile", '{"age": 31}', "--url", endpoint.url, "--token", "key"]
    result = CliRunner().invoke(app, asked)
    assert (result.exit_code, result.output) == (0, "stored\t1\nremoved\t0\nnobody\t0\n")
    body = {"users": [{"user_id": "u17", "profile": {"age": 31}}]}
    assert endpoint.asked == [("POST", "/v1/users", body, "Bearer key")]


def test_a_user_is_deleted_whatever_the_id_holds(endpoint: _Endpoint) -> None:
    endpoint.answer = 200, {"profile": True, "history": False}
    result = CliRunner().invoke(app, ["users", "delete", "a/ü?", "--url", endpoint.url])
    assert (result.exit_code, result.output) == (0, "profile\tforgotten\nhistory\tthere was none\n")
    assert endpoint.asked == [("DELETE", "/v1/users/a%2F%C3%BC%3F", None, None)]


def test_what_the_endpoint_refuses_is_told(endpoint: _Endpoint) -> None:
    endpoint.answer = 422, {"detail": "users.0.profile.aeg: not permitted"}
    result = CliRunner().invoke(app, ["users", "set", "u", "--profile", '{"aeg": 31}', "--url", endpoint.url])
    assert isinstance(result.exception, UserError) and "HTTP 422: users.0.profile.aeg" in str(result.exception)
    broken = CliRunner().invoke(app, ["users", "set", "u", "--profile", "{age", "--url", endpoint.url])
    assert isinstance(broken.exception, UserError) and broken.exception.field == "--profile"
    assert len(endpoint.asked) == 1


def test_a_request_sends_what_is_known_of_its_user(endpoint: _Endpoint) -> None:
    endpoint.answer = 204, None
    asked = [
        "request",
        "--user",
        "u",
        "--profile",
        '{"age": 31}',
        "--context",
        '{"country": "de"}',
        "--url",
        endpoint.url,
    ]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert endpoint.asked[0][2] == {"user_id": "u", "count": 5, "user": {"age": 31}, "context": {"country": "de"}}
