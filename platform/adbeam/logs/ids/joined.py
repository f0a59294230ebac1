"""One id of several columns: `203.0.113.7|Firefox` of an address and a browser. N rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.identity.people import NOBODY_WORDS
from adbeam.logs.ids.columns import id_texts, nobody_set

JOINT = "|"
_NO_TEXT = b"\xff"
"""Is not UTF-8: validation quarantines such an id."""


def joined_ids(parts: Sequence[pa.Array], column: str, nobody_words: Collection[str] = NOBODY_WORDS) -> pa.Array:
    """text or bytes [N]: the parts with a bar between them; bars and backslashes inside get a backslash in front.

    A missing part is empty; where all are missing or among `nobody_words` the id is null. A part that is no id (a float
    that lost digits, bytes in another encoding) makes an id that validation quarantines.
    """
    texts, nobody, bad = [], [], np.zeros(len(parts[0]), dtype=bool)
    words = nobody_set(nobody_words)
    for values in parts:
        text, problems = id_texts(values, column)
        bad = reduce(np.logical_or, [where for where, _ in problems], bad)
        text = pc.fill_null(text, "")
        bare = pc.utf8_lower(pc.utf8_trim_whitespace(text))
        nobody.append(pc.or_(pc.equal(bare, ""), pc.is_in(bare, value_set=words)))
        escaped = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), JOINT, "\\" + JOINT)
        texts.append(escaped)
    joined = pc.binary_join_element_wise(*texts, JOINT)
    joined = pc.if_else(reduce(pc.and_, nobody), None, joined)
    return pc.if_else(pa.array(bad), _NO_TEXT, joined.cast(pa.binary())) if bad.any() else joined
