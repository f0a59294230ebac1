"""Publish folder, data source and dashboards to Grafana through grafana-api: what differs, and nothing else.

The plan is made whole before the first change, so that a Grafana that cannot be reached or refuses the token leaves
nothing half-applied. Alert rules are no part of it: grafana-api has no alerting; Prometheus evaluates them.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from grafana_api.grafana_api import GrafanaException
from grafana_api.grafana_face import GrafanaFace

from adbeam.errors import UserError

FOLDER_UID = "adbeam"
FOLDER_TITLE = "adbeam"
DATASOURCE_NAME = "adbeam-prometheus"

_SET_BY_GRAFANA = ("id", "version")


@dataclass(frozen=True)
class Change:
    """One difference between Grafana and here. `diff` is readable; `body` is what will be sent."""

    kind: Literal["folder", "datasource", "dashboard"]
    name: str
    action: Literal["create", "update"]
    diff: str
    body: dict[str, Any]
    number: int | None = None


def connect(url: str, token: str | None, timeout_seconds: float = 10.0) -> GrafanaFace:
    """A client of the Grafana at `url`. Raises UserError for a URL or token that cannot be one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("not an address of Grafana", field="--url", value=url, remedy="https://grafana.example.com")
    if not token:
        raise UserError(
            "Grafana needs a service account token", field="--token", remedy="set GRAFANA_TOKEN; role Editor or Admin"
        )
    prefix = parts.path.strip("/")
    return GrafanaFace(
        auth=token,
        host=parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]",
        port=parts.port,
        protocol=parts.scheme,
        url_path_prefix=f"{prefix}/" if prefix else "",
        timeout=timeout_seconds,
    )


def plan(grafana: GrafanaFace, dashboards: list[dict[str, Any]], prometheus_url: str | None) -> list[Change]:
    """What must change, in order. Without `prometheus_url` no data source is touched."""
    changes = [_plan_folder(grafana), _plan_datasource(grafana, prometheus_url) if prometheus_url else None]
    changes += [_plan_dashboard(grafana, dashboard) for dashboard in dashboards]
    return [change for change in changes if change]


def apply(grafana: GrafanaFace, changes: list[Change]) -> None:
    """Make the changes; raises UserError naming the one that Grafana refused and those made before it."""
    for done, change in enumerate(changes):
        try:
            _apply_one(grafana, change)
        except (GrafanaException, requests.exceptions.RequestException) as error:
            made = ", ".join(f"{one.kind} {one.name}" for one in changes[:done]) or "nothing"
            raise _explained(error, f"{change.action} {change.kind} {change.name}", f"done before it: {made}") from None


def _apply_one(grafana: GrafanaFace, change: Change) -> None:
    if change.kind == "folder":
        grafana.folder.create_folder(change.body["title"], change.body["uid"])
    elif change.kind == "datasource" and change.action == "create":
        grafana.datasource.create_datasource(change.body)
    elif change.kind == "datasource":
        grafana.datasource.update_datasource(change.number, change.body)
    else:
        grafana.dashboard.update_dashboard(change.body)


def _plan_folder(grafana: GrafanaFace) -> Change | None:
    if _found(grafana.folder.get_folder, FOLDER_UID) is not None:
        return None
    body = {"uid": FOLDER_UID, "title": FOLDER_TITLE}
    return Change("folder", FOLDER_TITLE, "create", _diff(None, body), body)


def _plan_datasource(grafana: GrafanaFace, prometheus_url: str) -> Change | None:
    body = {"name": DATASOURCE_NAME, "type": "prometheus", "url": prometheus_url, "access": "proxy"}
    there = _found(grafana.datasource.get_datasource_by_name, DATASOURCE_NAME)
    if there is None:
        return Change("datasource", DATASOURCE_NAME, "create", _diff(None, body), body)
    same = {key: there.get(key) for key in body}
    if same == body:
        return None
    return Change("datasource", DATASOURCE_NAME, "update", _diff(same, body), {**there, **body}, there["id"])


def _plan_dashboard(grafana: GrafanaFace, dashboard: dict[str, Any]) -> Change | None:
    there = _found(grafana.dashboard.get_dashboard, dashboard["uid"])
    wanted = _comparable(dashboard)
    body: dict[str, Any] = {"dashboard": dashboard, "folderUid": FOLDER_UID, "message": "adbeam dashboards push"}
    if there is None:
        return Change("dashboard", dashboard["title"], "create", _diff(None, wanted), {**body, "overwrite": False})
    present = _comparable(there["dashboard"])
    if present == wanted and there["meta"].get("folderUid") == FOLDER_UID:
        return None
    # The version that was compared: Grafana answers 412 when somebody saved another one since.
    body["dashboard"] = {**dashboard, "version": there["dashboard"]["version"]}
    diff = _diff({"folder": there["meta"].get("folderUid"), **present}, {"folder": FOLDER_UID, **wanted})
    return Change("dashboard", dashboard["title"], "update", diff, {**body, "overwrite": False})


def _comparable(dashboard: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in dashboard.items() if key not in _SET_BY_GRAFANA}


def _found(get: Any, key: str) -> Any:
    """What Grafana holds under `key`, None when it answers 404; raises UserError on any other refusal."""
    try:
        return get(key)
    except (GrafanaException, requests.exceptions.RequestException, ValueError) as error:
        if getattr(error, "status_code", None) == 404:
            return None
        raise _explained(error, f"look up {key}", "nothing was changed") from None


def _explained(error: Exception, doing: str, state: str) -> UserError:
    status = getattr(error, "status_code", None)
    if isinstance(error, requests.exceptions.RequestException) and status is None:
        return UserError(f"cannot reach Grafana to {doing}; {state}", field="--url", remedy="check address and network")
    if status is None:
        return UserError(f"what answers is no Grafana; could not {doing}; {state}", field="--url")
    remedies = {
        400: "this is a fault of the dashboard: report it",
        401: "check GRAFANA_TOKEN: it is wrong, expired or revoked",
        403: "give the service account the role Editor (Admin for the data source)",
        409: "something of this name exists under another uid: rename it in Grafana",
        412: "somebody saved it meanwhile: look at the difference (--dry-run) and push again",
    }
    remedy = remedies.get(status, "see Grafana's log and push again" if status >= 500 else "see Grafana's log")
    return UserError(f"Grafana answered {status} to: {doing} ({_message(error)}); {state}", remedy=remedy)


def _message(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("message", ""))
    return str(error)


def _diff(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    old = [] if before is None else json.dumps(before, indent=2, sort_keys=True).splitlines()
    new = json.dumps(after, indent=2, sort_keys=True).splitlines()
    return "\n".join(difflib.unified_diff(old, new, "grafana", "adbeam", lineterm="", n=2))
