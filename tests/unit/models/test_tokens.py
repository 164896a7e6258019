import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.models.tokens import concatenated, ragged


def samples_of(lengths):
    rng = np.random.default_rng(sum(lengths))
    return [
        (rng.integers(9, size=n).astype(np.int32), rng.random(n).astype(np.float32))
        for n in lengths
    ]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), max_size=6))
def test_samples_come_back_one_by_one(first, second):
    samples = samples_of(first) + samples_of(second)
    tokens = concatenated([ragged(samples_of(first)), ragged(samples_of(second))])
    assert len(tokens) == len(samples)
    assert all(same(tokens.sample(row), sample) for row, sample in enumerate(samples))
    assert tokens.lengths.tolist() == first + second
    assert (tokens.ids.dtype, tokens.weights.dtype, tokens.offsets.dtype) == (
        np.int32, np.float32, np.int64,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [[], [2, 0], [1, 1, 1]])
def test_samples_are_taken_in_any_order_and_number(rows):
    samples = samples_of([3, 0, 2])
    taken = ragged(samples).take(rows)
    assert [len(taken), len(taken.n_bytes), len(taken.truncated)] == [len(rows)] * 3
    assert all(same(taken.sample(at), samples[row]) for at, row in enumerate(rows))
