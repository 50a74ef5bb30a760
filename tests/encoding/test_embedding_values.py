from pathlib import Path

import numpy as np
import pytest

from scripts.common.errors import SlideError
from scripts.encoding.embedding_values import observed_rows, require_features


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_vector_is_observed_by_any_number_that_is_not_zero(dtype: str) -> None:
    features = np.zeros((6, 40), dtype=dtype)
    features[1] = -0.0
    for row, value in ((2, 1e-7), (3, -1e-7), (4, -2.0), (5, 3.0)):
        features[row, 7 * row] = value
    assert observed_rows(features).tolist() == [False, False, True, True, True, True]
    assert observed_rows(features[:, 16:24]).tolist() == [False, False, False, True, False, False], "some channels"
    assert observed_rows(np.zeros((3, 0), dtype=dtype)).tolist() == [False] * 3  # none of the channels are used
    assert observed_rows(np.zeros((0, 4), dtype=dtype)).tolist() == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_none_is_found_among_many(dtype: str, value: float) -> None:
    features = np.random.default_rng(0).normal(size=(300, 70)).astype(dtype)
    assert require_features(features, Path("a.h5")) is features
    features[201, 33] = value
    with pytest.raises(SlideError, match="NaN or infinity"):
        require_features(features, Path("a.h5"))
