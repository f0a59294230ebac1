"""How many replicas there are, asked of Serve only while somebody looks, and never by a request's thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

logger = logging.getLogger(__name__)

ASK_SECONDS = 2.0


class Fleet:
    """This replica's name, and the counts Serve last told. `look` returns at once; a thread asks for the next time."""

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = None
        self._asked_s = float("-inf")
        self._asking = threading.Lock()

    def look(self) -> dict[str, Any]:
        """{"replica": name, "replicas": {"RUNNING": 2, ...} or null where Serve has not answered yet}."""
        if time.monotonic() - self._asked_s > ASK_SECONDS and self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="fleet", daemon=True).start()
        return {"replica": self._context().replica_id.unique_id, "replicas": self._counts}

    def _ask(self) -> None:
        from ray import serve

        try:
            context = self._context()
            deployment = serve.status().applications[context.app_name].deployments[context.deployment]
            states = deployment.replica_states.items()  # by enumeration or by its text, as Serve sees fit
            self._counts = {str(getattr(state, "value", state)): count for state, count in states if count}
        except Exception:
            logger.exception("Serve did not tell how many replicas there are")
        finally:
            self._asked_s = time.monotonic()
            self._asking.release()

    def _context(self) -> Any:
        from ray import serve

        return serve.get_replica_context()
