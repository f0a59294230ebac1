"""`adbeam doctor` and `adbeam status`: what they find, and that they survive what is broken."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from adbeam import artifacts
from adbeam.bundle import write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.errors import UserError
from adbeam.model.config import ModelConfig
from adbeam.operations.doctor import Finding, examine
from adbeam.operations.status import lines, parse_applications, read_rungs, read_status
from adbeam.serving.events.retention import retain


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(
        tmp_path / "bundles",
        model_config=ModelConfig(),
        settings=BundleSettings(ecpm_means=[]),
        weights={"w": torch.zeros(2)},
        codebooks={"level_0": torch.zeros(2, 2)},
        ladder_quality={},
        catalogue=pa.table({"item_id": ["a"], "sid": [[1, 2, 3]]}),
        details={"step": "export"},
    )


def _of(findings: list[Finding], topic: str) -> list[Finding]:
    return [finding for finding in findings if finding.topic == topic]


def test_a_healthy_machine_has_no_fault(tmp_path: Path, bundle: Path) -> None:
    findings = examine(work_dir=tmp_path, bundle=None, ports={})
    assert [finding for finding in findings if finding.verdict == "fault"] == []
    assert {"python", "torch", "ray", "machine", "disk", "token", "bundle"} <= {finding.topic for finding in findings}
    assert bundle.name in _of(findings, "bundle")[0].text


def test_a_corrupt_bundle_is_a_fault_that_names_the_file(tmp_path: Path, bundle: Path) -> None:
    with (bundle / "model.safetensors").open("r+b") as stream:
        stream.write(b"xxxx")
    (finding,) = _of(examine(work_dir=tmp_path, bundle=None, ports={}), "bundle")
    assert finding.verdict == "fault"
    assert "model.safetensors" in finding.text


def test_a_bundle_asked_for_and_missing_is_a_fault(tmp_path: Path) -> None:
    (finding,) = _of(examine(work_dir=tmp_path, bundle=tmp_path / "none", ports={}), "bundle")
    assert finding.verdict == "fault"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (finding,) = _of(examine(work_dir=tmp_path, bundle=None, ports={"x": port}), "port")
    assert finding.verdict == "warning"
    assert str(port) in finding.text


@pytest.mark.parametrize(("mode", "bits", "verdict"), [("token", 0o644, "warning"), ("token", 0o600, None)])
def test_a_token_that_others_can_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, bits: int, verdict: str | None
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(bits)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    findings = _of(examine(work_dir=tmp_path, bundle=None, ports={}), "token")
    assert [finding.verdict for finding in findings if finding.verdict != "ok"] == ([verdict] if verdict else [])


def test_authentication_switched_off_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (finding,) = _of(examine(work_dir=tmp_path, bundle=None, ports={}), "token")
    assert finding.verdict == "warning"


def test_status_reads_steps_and_bundles_without_a_cluster(tmp_path: Path, bundle: Path) -> None:
    with artifacts.publish(tmp_path / "training", {"metrics": {"loss": 1.23456, "note": "x"}}):
        pass
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    status = read_status(work_dir=tmp_path, address=f"http://127.0.0.1:{port}")
    assert status.bundle == bundle.name
    assert status.bundles == [bundle.name]
    assert [(step.name, step.metrics) for step in status.steps] == [("training", {"loss": 1.235})]
    assert "cannot reach the job server" in status.unreachable[0]
    assert json.loads(status.to_json())["bundle"] == bundle.name


def test_status_tells_of_rows_that_were_removed_unread(tmp_path: Path) -> None:
    folder = tmp_path / "serving" / "events"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"n": [1, 2, 3]}), folder / "events-1-a.parquet")
    assert retain(folder, "events", 1, 1, None) == 3
    status = read_status(work_dir=tmp_path, address="http://127.0.0.1:1")
    assert status.removed_unread == {"event": 3, "request": 0}
    assert "event log: 3 rows were removed unread (max_bytes)" in lines(status)


def test_applications_are_counted_by_replica_state() -> None:
    details = {
        "applications": {
            "ads": {
                "status": "RUNNING",
                "message": "Traceback\n  File x\nUserError: no such bundle\n",
                "deployments": {
                    "Recommender": {
                        "name": "Recommender",
                        "status": "UPSCALING",
                        "target_num_replicas": 3,
                        "replicas": [{"state": "RUNNING"}, {"state": "RUNNING"}, {"state": "STARTING"}],
                    }
                },
            }
        }
    }
    (application,) = parse_applications(details)
    assert application.deployments[0].replicas == {"RUNNING": 2, "STARTING": 1}
    from adbeam.operations.status import Status

    text = "\n".join(lines(Status(applications=[application], rungs={"r1": 2})))
    assert "Recommender: UPSCALING; replicas: 2 running, 1 starting of 3" in text
    assert "replica r1: rung 2" in text
    assert "RUNNING UserError: no such bundle" in text


def test_rungs_are_read_from_a_metrics_endpoint() -> None:
    text = (
        'ray_adbeam_rung{application="ads",deployment="Recommender",replica="abc",Version="2.60.0"} 2.0\n'
        'ray_adbeam_rung_width{application="ads",replica="abc"} 64.0\n'
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 500)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert read_rungs(f"http://127.0.0.1:{server.server_port}/metrics") == {"abc": 2}
        with pytest.raises(UserError, match="no metrics there"):
            read_rungs(f"http://127.0.0.1:{server.server_port}/other")
        server.shutdown()
