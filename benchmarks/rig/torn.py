"""Bodies of requests with faults in their bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence


def torn(body: bytes, rng: random.Random, times: int, splices: Sequence[bytes] = ()) -> bytes:
    """A body with so many faults in its bytes: some replaced (by one of `splices`, or at random), repeated or flipped,
    or its end missing."""
    found = bytearray(body)
    for _ in range(times):
        start = rng.randrange(len(found) + 1)
        match rng.randrange(4):
            case 0:
                found[start : start + rng.randrange(8)] = rng.choice((*splices, rng.randbytes(3)))
            case 1:
                del found[start:]
            case 2:
                found[start:start] = found[start : start + rng.randrange(60)]
            case _ if found:
                found[start % len(found)] ^= 1 << rng.randrange(8)
    return bytes(found)
