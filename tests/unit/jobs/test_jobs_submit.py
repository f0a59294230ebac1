"""Submitting jobs: what is uploaded, what is refused before anything is sent, and how the log is followed."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from adbeam.cli.jobs import jobs_app
from adbeam.errors import UserError
from adbeam.jobs import submit
from adbeam.jobs.environment import measure, parse_env, runtime_env
from adbeam.jobs.steps import STEPS, step_named


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """connect() and use_token_file() change the environment: put it back after each test."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "train.yaml").write_text("size: tiny\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model.bin").write_bytes(b"x" * 5000)
    (tmp_path / "data.bin").write_bytes(b"x" * 3000)
    (tmp_path / ".gitignore").write_text("ignored.bin\n")
    (tmp_path / "ignored.bin").write_bytes(b"x" * 4000)
    return tmp_path


def test_the_environment_leaves_out_results_and_ships_this_library(folder: Path) -> None:
    environment = runtime_env(folder, env={"A": "1"}, excludes=("data.bin",))
    upload = measure(folder, environment["excludes"])
    assert {path.name for path, _ in upload.largest} == {"train.yaml", ".gitignore"}
    assert environment["env_vars"]["A"] == "1"
    assert (Path(environment["py_modules"][0]) / "cli" / "root.py").is_file()
    assert "py_modules" not in runtime_env(folder, env={}, ship_library=False)


def test_too_large_a_folder_names_the_largest_files(folder: Path) -> None:
    with (folder / "log.csv").open("wb") as stream:
        stream.truncate(3 << 20)
    with pytest.raises(
        UserError, match=r"too large to send: 3 MiB in 4 files, the limit is 1 MiB; largest: log.csv"
    ) as error:
        runtime_env(folder, env={}, limit_bytes=1 << 20)
    assert "--exclude" in str(error.value)
    runtime_env(folder, env={}, limit_bytes=1 << 20, excludes=("*.csv",))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--working-dir: no such folder"):
        runtime_env(tmp_path / "none", env={})


def test_environment_variables_are_pairs() -> None:
    assert parse_env(["A=1", "B_2=x=y"]) == {"A": "1", "B_2": "x=y"}
    for bad in ("A", "=1", "1A=2", "A B=1"):
        with pytest.raises(UserError, match="NAME=value"):
            parse_env([bad])


def test_entrypoints_quote_what_the_shell_would_read() -> None:
    words = shlex.split(step_named("train").entrypoint("my jobs/train.yaml", ("work_dir=$HOME; rm x",)))
    assert words[-4:] == ["--config", "my jobs/train.yaml", "--set", "work_dir=$HOME; rm x"]
    assert {"prepare", "tokenize", "train", "evaluate", "export"} <= set(STEPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "trian"], "STEP: no such step"),
        (["submit", "train", "--config", "jobs/none.yaml"], "--config: no such file"),
        (["submit", "train", "--env", "A"], "NAME=value"),
        (["submit", "train", "--token-file", "none"], "--token-file: no token"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_sent(folder: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(jobs_app, [*arguments, "--working-dir", str(folder), "--address", "http://127.0.0.1:9"])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


@contextmanager
def _server(status: int, body: Any) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "Unauthorized: Missing authentication token", "wants a token and got none"),
        (403, "Forbidden: Invalid authentication token", "refused the token"),
        (404, "nothing here", "no Ray job server"),
        (500, "broken", "cannot reach the job server"),
    ],
)
def test_what_answers_at_the_address_is_told_apart(status: int, body: str, message: str) -> None:
    with _server(status, body) as address, pytest.raises(UserError, match=message):
        submit.connect(address)


def test_an_address_where_nobody_listens_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=f"--address: cannot reach the job server; got 'http://127.0.0.1:{port}'"):
        submit.connect(f"http://127.0.0.1:{port}")


class _Client:
    """A job whose log breaks off once, and is then sent anew from its start, as Ray does."""

    def __init__(self, status: JobStatus, code: int | None, pieces: list[list[str]]) -> None:
        self.status, self.code, self.pieces = status, code, pieces

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for piece in self.pieces.pop(0):
            yield piece
        if self.pieces:
            self.status = JobStatus.RUNNING
            raise RuntimeError("connection lost")

    def get_job_status(self, job: str) -> JobStatus:
        status, self.status = self.status, JobStatus.FAILED if self.code else self.status
        return status

    def get_job_info(self, job: str) -> Any:
        return SimpleNamespace(driver_exit_code=self.code)


def test_a_log_that_breaks_off_is_taken_up_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbeam.jobs.submit.time.sleep", lambda seconds: None)
    written: list[str] = []
    client = _Client(JobStatus.RUNNING, 3, [["one\n", "two\n"], ["one\ntwo\nthree\n", "four\n"]])
    assert submit.follow(client, "job", written.append) == 3  # type: ignore[arg-type]
    assert "".join(written) == "one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_the_exit_code_is_the_jobs(status: JobStatus, code: int | None, expected: int) -> None:
    assert submit.exit_code(_Client(status, code, []), "job") == expected  # type: ignore[arg-type]


def test_a_token_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "old")
    token = tmp_path / "token"
    token.write_text("new")
    submit.use_token_file(token)
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert "RAY_AUTH_TOKEN" not in os.environ
