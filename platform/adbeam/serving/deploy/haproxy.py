#!/usr/bin/env python3
"""The proxy timeout, and what else Serve has no setting for: HAProxy's config is completed, then HAProxy is started.

Serve starts this program as HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH). It adds addresses of HAProxy's own two ports, a
request's deadline as its time for an answer, 503 with Retry-After in place of 500, and no 404 while routes are not
known yet. It runs at each reload, never at a request, with the standard library alone: any python3 on PATH does.
https://docs.haproxy.org/2.8/configuration.html
"""

from __future__ import annotations

import os
import re
import sys

BINARY_ENV = "ADBEAM_HAPROXY_BINARY"
"""The true HAProxy."""
GRACE_ENV = "ADBEAM_PROXY_GRACE_MS"
DEFAULT_GRACE_MS = 50
"""So long after its deadline the proxy still waits for an answer: the replica itself answers at the deadline."""
BUSY_BODY = (
    '{"type":"about:blank","title":"Service Unavailable","status":503,'
    '"detail":"no replica answered in time","errors":[]}'
)
BUSY = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    f"Content-Length: {len(BUSY_BODY)}\r\nConnection: close\r\n\r\n{BUSY_BODY}"
)
_NO_ROUTES = (
    '    http-request return status 503 content-type text/plain string "Routes are not known yet." hdr Retry-After 1'
)


def completed(config: str, busy_file: str, grace_ms: int = DEFAULT_GRACE_MS) -> str:
    """Serve's `config` with what it has no settings for; `busy_file` holds BUSY. Twice is as once."""
    frontend = re.search(r"^frontend http_frontend\n +bind (\S+):\d+$", config, re.MULTILINE)
    if frontend is not None and frontend[1] != "*":
        config = re.sub(r"(?m)^( +bind )\*?:(\d+)$", rf"\g<1>{frontend[1]}:\g<2>", config)
    config = re.sub(r"(?m)^( +errorfile 50[234]) .+$", lambda found: f"{found[1]} {busy_file}", config)
    if re.search(r"(?m)^ +use_backend ", config) is None:
        config = re.sub(r"(?m)^(backend default_backend\n) +http-request return .+$", rf"\g<1>{_NO_ROUTES}", config)
    rules = _deadline_rules(grace_ms)
    if rules in config:
        return config
    return re.sub(r"(?m)^(backend http-\S+\n +log global\n)", lambda found: found[1] + rules, config)


def _deadline_rules(grace_ms: int) -> str:
    """Read `deadline_ms` and `tmax` (ms) out of bodies of JSON; other requests keep `timeout server`."""
    lines = ["http-request wait-for-body time 1s if METH_POST { path /v1/ads /v1/openrtb }"]
    for path, key in (("/v1/ads", "deadline_ms"), ("/v1/openrtb", "tmax")):
        lines.append(f"http-request set-var(txn.adbeam_ms) req.body,json_query('$.{key}','int') if {{ path {path} }}")
    lines.append(
        f"http-request set-timeout server var(txn.adbeam_ms),add({grace_ms}) if {{ var(txn.adbeam_ms) -m int gt 0 }}"
    )
    return "".join(f"    {line}\n" for line in lines)


def main(arguments: list[str]) -> None:
    """Complete the file after `-f`, and become HAProxy with the same arguments."""
    if "-f" in arguments:
        path = arguments[arguments.index("-f") + 1]
        busy_file = os.path.join(os.path.dirname(path), "503.http")
        with open(busy_file, "w", encoding="ascii", newline="") as file:
            file.write(BUSY)
        with open(path, encoding="utf-8") as file:
            config = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(completed(config, busy_file, int(os.environ.get(GRACE_ENV, DEFAULT_GRACE_MS))))
    os.execv(os.environ[BINARY_ENV], [os.environ[BINARY_ENV], *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
