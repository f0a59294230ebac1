"""Whole columns of told values as codes: of equal values once.

Shapes: K values.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.declared.encoder import FittedFeature
from adbeam.logs.told.columns import WORD_END


def encode_column(feature: FittedFeature, values: pa.Array) -> np.ndarray:
    """int32 [K, columns]: `FittedFeature.encode` of a whole column."""
    if feature.kind == "vector":
        return _vectors(feature, values)
    if feature.kind == "number":
        return feature.encode(values.to_pylist())
    if feature.kind == "list":
        coded = values.dictionary_encode()
        code_nF = feature.encode([*(tuple(text.split(WORD_END)) for text in coded.dictionary.to_pylist()), None])
    else:
        coded = values.cast(pa.string()).dictionary_encode()
        code_nF = feature.encode([*coded.dictionary.to_pylist(), None])
    code_KF: np.ndarray = code_nF[pc.fill_null(coded.indices, len(coded.dictionary)).to_numpy()]
    return code_KF


def _vectors(feature: FittedFeature, values: pa.Array) -> np.ndarray:
    x_KD = np.full((len(values), feature.dimensions), np.nan)
    known = values.is_valid()
    if known.true_count:
        flat = pc.list_flatten(values.filter(known)).to_numpy(zero_copy_only=False)
        x_KD[known.to_numpy(zero_copy_only=False)] = flat.reshape(-1, feature.dimensions)
    return feature.encode_vectors(x_KD)
