"""The hashed last level (GR4AD 1.2.2, MG): business fields that carry no meaning but still decide value.

Two ads with the same content but another account or item id get different SIDs. The hash is BLAKE2b cut to 64 bits:
the same on every machine, process and version, so that an ad encoded online agrees with the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from adbeam.errors import UserError

SEPARATOR = "\x1f"


def hash_business_fields(table: pa.Table, fields: Sequence[str]) -> np.ndarray:
    """uint64 [N]: a stable hash of `fields` of every row; raises UserError naming a field the catalogue lacks."""
    missing = [name for name in fields if name not in table.column_names]
    if missing:
        raise UserError(
            f"the catalogue has no column {missing[0]!r}",
            field="tokens.quantizer.business_fields",
            value=list(fields),
            remedy=f"choose from {', '.join(table.column_names)}",
        )
    columns = [_as_text(table.column(name)) for name in fields]
    return np.fromiter(
        (_hash64(SEPARATOR.join(values)) for values in zip(*columns, strict=True)), np.uint64, count=table.num_rows
    )


def _as_text(column: pa.ChunkedArray) -> list[str]:
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    texts: list[str] = column.fill_null("").to_pylist()
    return texts


def _hash64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
