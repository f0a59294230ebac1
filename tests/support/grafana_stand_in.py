"""An HTTP stand-in for Grafana: the paths, bodies and status codes of its HTTP API that publishing uses.

No Grafana can be installed from the package sources of the tests. This keeps what Grafana 9 to 12 document:
folders by uid, data sources by name, dashboards by uid with versions (412 on a stale one), bearer tokens (401).
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "glsa_test"
Answer = tuple[int, Any]


class Grafana:
    """The state. `fail` maps (method, path) to a status it answers instead; `log` holds all requests."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.datasources: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.fail: dict[tuple[str, str], int] = {}
        self.log: list[tuple[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [entry for entry in self.log if entry[0] != "GET"]

    def answer(self, method: str, path: str, authorization: str, body: Any) -> Answer:
        self.log.append((method, path))
        if (method, path) in self.fail:
            return self.fail[method, path], {"message": "told to fail"}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        parts = path.strip("/").split("/")[1:]
        handler = getattr(self, f"_{method.lower()}_{parts[0]}", None)
        return handler(parts[1:], body) if handler else (404, {"message": "Not found"})

    def _get_folders(self, parts: list[str], _: Any) -> Answer:
        found = self.folders.get(parts[0])
        return (200, found) if found else (404, {"message": "folder not found", "status": "not-found"})

    def _post_folders(self, _: list[str], body: Any) -> Answer:
        if body["uid"] in self.folders:
            return 409, {"message": "a folder with the same name already exists in the current location"}
        self.folders[body["uid"]] = {"id": len(self.folders) + 1, "version": 1, **body}
        return 200, self.folders[body["uid"]]

    def _get_datasources(self, parts: list[str], _: Any) -> Answer:
        found = self.datasources.get(parts[1]) if parts[:1] == ["name"] else None
        return (200, found) if found else (404, {"message": "Data source not found"})

    def _post_datasources(self, _: list[str], body: Any) -> Answer:
        if body["name"] in self.datasources:
            return 409, {"message": "data source with the same name already exists"}
        number = len(self.datasources) + 1
        self.datasources[body["name"]] = {"id": number, "uid": f"u{number}", "isDefault": False, **body}
        return 200, {"id": number, "message": "Datasource added", "name": body["name"]}

    def _put_datasources(self, parts: list[str], body: Any) -> Answer:
        for name, entry in self.datasources.items():
            if entry["id"] == int(parts[0]):
                self.datasources[name] = {**entry, **body}
                return 200, {"id": entry["id"], "message": "Datasource updated", "name": name}
        return 404, {"message": "Data source not found"}

    def _get_dashboards(self, parts: list[str], _: Any) -> Answer:
        found = self.dashboards.get(parts[1]) if parts[:1] == ["uid"] else None
        return (200, found) if found else (404, {"message": "Dashboard not found"})

    def _post_dashboards(self, _: list[str], body: Any) -> Answer:
        dashboard = copy.deepcopy(body["dashboard"])
        if not dashboard.get("title"):
            return 400, {"message": "Dashboard title cannot be empty"}
        if body.get("folderUid") not in self.folders:
            return 400, {"message": "folder not found"}
        present = self.dashboards.get(dashboard["uid"])
        version = present["dashboard"]["version"] if present else 0
        if present and not body.get("overwrite") and dashboard.get("version") != version:
            return 412, {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
        dashboard |= {"id": len(self.dashboards) + 1, "version": version + 1}
        meta = {"folderUid": body["folderUid"], "version": version + 1}
        self.dashboards[dashboard["uid"]] = {"dashboard": dashboard, "meta": meta}
        return 200, {"uid": dashboard["uid"], "status": "success", "version": version + 1}


@contextmanager
def running() -> Iterator[Grafana]:
    """A stand-in that listens on a free port of 127.0.0.1."""
    grafana = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, value = grafana.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            payload = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PUT = _do

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    grafana.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield grafana
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
