"""What came after a request: the targets of the further prediction heads (GPR eq 3).

Shapes: E events of all users, K requests with a target, n targets.
"""

from __future__ import annotations

import numpy as np

from adbeam.logs.requests import AD
from adbeam.records import ACTIONS
from adbeam.training.data.targets import JoinedEvents, Targets


def later_ads(
    events: JoinedEvents, targets: Targets, action: str, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(row, place in the row, event, head) of the next `most` ads of each request's user that he acted on after the
    request began, in other requests of the training split; the first of them is of head 1, and so on. Places follow
    those of the request's own targets.
    """
    counts_E = events.in_training_E & events.known_E & (events.kind_E == AD)
    counts_E &= events.action_E == ACTIONS.index(action)
    candidate_n = counts_E.nonzero()[0]
    edge_U = np.append(events.start_U, len(events.owner_E))
    own_K = np.bincount(targets.request_n, minlength=len(targets.user_K))
    first_K = np.zeros(len(own_K), dtype=np.int64)
    first_K[targets.request_n[::-1]] = targets.event_n[::-1]
    request_K = events.request_E[first_K]
    found: list[tuple[int, int, int, int]] = []
    for row, (user, now_ms) in enumerate(zip(targets.user_K.tolist(), targets.now_ms_K.tolist(), strict=True)):
        start, end = edge_U[user], edge_U[user + 1]
        after = start + np.searchsorted(events.timestamp_E[start:end], now_ms, side="right")
        low, high = np.searchsorted(candidate_n, (after, end))
        later = candidate_n[low:high]
        later = later[events.request_E[later] != request_K[row]][:most]
        found += [(row, int(own_K[row]) + head, int(event), 1 + head) for head, event in enumerate(later.tolist())]
    row_n, place_n, event_n, head_n = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return row_n, place_n, event_n, head_n
