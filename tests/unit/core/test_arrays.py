from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core import arrays
from didact.core.arrays import occur

numbers = st.lists(st.integers(-3, 40) | st.integers(0, 2**40), max_size=12)


@given(numbers, st.integers(1, 3), st.booleans(), st.integers(1, 3))
def test_how_often_values_occur(values, repeated, sparse, times):
    values = values * repeated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_SPARSE", 1 if sparse else 64)
        found = occur(np.array(values, np.int64), times=times)
    assert found == all(count == times for count in Counter(values).values())


@given(st.permutations(range(6)), st.integers(0, 7))
def test_values_below_a_bound(values, n):
    assert occur(np.array(values), n) == (n >= 6)
    assert not occur(np.array([*values, -1]), 8)
