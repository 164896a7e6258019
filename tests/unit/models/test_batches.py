from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from didact.accounting.lengths import LEAST_SHARE, MOST_PADDING, micro_batches  # noqa: E402
from didact.core.errors import ExecutionError  # noqa: E402
from didact.models.batches import Batch, collate, over_batches  # noqa: E402
from didact.models.tokens import Tokens  # noqa: E402

PAD = 99


def ragged(lengths: list[int], missing: dict[int, str] | None = None) -> Tokens:
    """Samples of 1, 2, 3, …, a new number for every token; all but the first count."""
    total = sum(lengths)
    offsets = np.cumsum([0, *lengths])
    weights = np.full(total, 0.5, np.float32)
    weights[offsets[:-1][np.asarray(lengths) > 0]] = 0
    n = len(lengths)
    return Tokens(
        np.arange(1, total + 1, dtype=np.int32), weights, offsets, np.zeros(n, np.int64),
        np.zeros(n, np.bool_), missing or {},
    )  # fmt: skip


def run(tokens: Tokens, function: Any, budget: int = 12) -> list[tuple[Batch, Any]]:
    found = over_batches(
        function, tokens, tokens_per_batch=budget, pad_id=PAD, device=torch.device("cpu")
    )
    return list(found)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60), st.data())
def test_micro_batches_hold_every_row_once_and_keep_the_budget(lengths, budget, data):
    all_rows = np.arange(len(lengths))
    rows = np.asarray(data.draw(st.permutations(all_rows.tolist())), np.int64)
    rows = rows[: data.draw(st.integers(0, len(rows)))]
    of = np.asarray(lengths, np.int64)
    batches = list(micro_batches(of, rows, budget))
    flat = np.concatenate([*batches, np.empty(0, np.int64)])
    assert sorted(flat) == sorted(rows)
    assert (np.diff(of[flat]) <= 0).all()  # longest first
    for batch in batches:
        padded = len(batch) * of[batch].max()
        assert padded <= max(budget, of[batch].max())
        # Batches of some size hold little padding.
        padding = padded - of[batch].sum()
        assert padding <= MOST_PADDING * padded or padded <= LEAST_SHARE * budget


def test_a_batch_is_padded_on_the_right():
    tokens = ragged([3, 1, 2])
    batch = collate(tokens, np.array([2, 0]), pad_id=PAD, device="cpu")
    assert batch.rows.tolist() == [2, 0]
    assert batch.input_ids.tolist() == [[5, 6, PAD], [1, 2, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert batch.weights.tolist() == [[0.0, 0.5, 0.0], [0.0, 0.5, 0.5]]
    assert batch.input_ids.dtype == batch.position_ids.dtype == torch.int64
    assert list(batch.inputs) == ["input_ids", "attention_mask", "position_ids"]


def test_one_sample_is_a_batch_that_may_be_written_to():
    batch = collate(ragged([4]), np.array([0]), pad_id=PAD, device="cpu")
    batch.position_ids[0, 0] = 7
    assert batch.position_ids.tolist() == [[7, 1, 2, 3]]


def test_only_samples_with_a_loss_are_run():
    found = run(ragged([2, 5, 3, 0], {0: "why", 3: "nothing"}), len)
    assert sorted(np.concatenate([batch.rows for batch, _ in found])) == [1, 2]
    assert run(ragged([2, 3], {0: "a", 1: "b"}), len) == []
    assert run(ragged([]), len) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_when_memory_runs_out_batches_are_halved_and_stay_small(error):
    asked = []

    def forward(batch: Batch) -> int:
        asked.append(batch.input_ids.numel())
        if batch.input_ids.numel() > 20:
            raise error
        return int(batch.input_ids[batch.attention_mask.bool()].sum())

    tokens = ragged([4] * 40)
    found = run(tokens, forward, budget=64)
    assert sorted(np.concatenate([batch.rows for batch, _ in found])) == list(range(40))
    assert sum(result for _, result in found) == tokens.ids.sum()
    assert asked[:3] == [64, 32, 16]
    assert max(asked[3:]) <= 16  # what did not fit is not tried again


def test_one_sample_that_does_not_fit_is_an_error():
    def forward(batch: Batch) -> None:
        raise torch.OutOfMemoryError("no")

    with pytest.raises(ExecutionError, match=r"a sample of 9 tokens.*cpu.*max_length"):
        run(ragged([9, 2, 2]), forward)


def test_any_other_error_is_not_taken_for_a_lack_of_memory():
    def forward(batch: Batch) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(ragged([2, 2]), forward)
