from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact import Budget, Scores, Selection, TrainingOrder
from didact.core.errors import BudgetError, ConfigError, DataError, PoolMismatchError
from didact.data import tables
from didact.testing import make_pool

POOL = "0" * 32


def scores(values, **change):
    return Scores(
        np.asarray(values, float),
        higher_is_better=True,
        method="m",
        pool_fingerprint=POOL,
        **change,
    )


def test_utility_is_the_only_place_a_sign_flips():
    low = Scores(np.array([1.0, 2.0]), higher_is_better=False, method="m", pool_fingerprint=POOL)
    assert low.utility.tolist() == [-1.0, -2.0]
    assert low.values.tolist() == [1.0, 2.0]
    holes = scores([1.0, np.nan], missing={1: "no number"})
    assert holes.utility.tolist() == [1.0, -np.inf]
    assert holes.present.tolist() == [True, False]


def test_scores_are_frozen_and_leave_the_callers_array_alone():
    mine = np.array([1.0, 2.0])
    made = scores(mine)
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 3
    mine[0] = 9


@pytest.mark.parametrize(
    ("values", "missing", "message"),
    [
        ([1.0, np.nan], {}, "score of row 1 is nan"),
        ([1.0, np.inf], {}, "score of row 1 is inf"),
        ([1.0, 2.0], {0: "why"}, "score of row 0 is 1.0"),
        ([np.inf, 2.0], {0: "why"}, "score of row 0 is inf"),
        ([1.0], {4: "why"}, r"missing row 4 is outside 0..0"),
    ],
)
def test_scores_are_finite_exactly_where_they_are_not_missing(values, missing, message):
    with pytest.raises(DataError, match=message):
        scores(values, missing=missing)


def test_by_task_has_a_column_per_task():
    with pytest.raises(DataError, match=r"by_task has shape \(2, 1\), expected \(2, 2\)"):
        scores([1.0, 2.0], tasks=("a", "b"), by_task=np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "exactly one of samples, tokens, ratio, flops; got none"),
        ({"samples": 1, "ratio": 0.5}, "exactly one of"),
        ({"samples": -1}, "samples=-1; expected 0 or more"),
        ({"samples": 1.5}, "samples=1.5 is not a whole number"),
        ({"ratio": 1.01}, "ratio=1.01; expected between 0 and 1"),
        ({"ratio": float("nan")}, "ratio=nan"),
        ({"tokens": float("inf")}, "tokens=inf is not a whole number"),
        ({"samples": True}, "samples=True is not a number"),
        ({"samples": "9"}, "samples='9' is not a number"),
        ({"flops": 1e18, "ratio": 0.5}, "exactly one of"),
        ({"flops": 0}, "flops=0.0; expected a number of FLOPs above 0"),
        ({"flops": -1e18}, "expected a number of FLOPs above 0"),
        ({"flops": float("inf")}, "expected a number of FLOPs above 0"),
        ({"flops": 0.2}, r"flops=0.2 is a share; did you mean ratio=0.2\?"),
        ({"flops": "1e18"}, "flops='1e18' is not a number"),
    ],
)
def test_wrong_budgets(given, message):
    with pytest.raises(BudgetError, match=message):
        Budget(**given)


def test_ratio_is_floored_in_decimal():
    # binary floating point gives 28: int(100 * 0.29)
    assert Budget(ratio=0.29).amount(100) == 29
    assert Budget(ratio=0.05).amount(10) == 0
    assert Budget(ratio=1).amount(153_961) == 153_961


@given(st.integers(0, 1000), st.integers(1, 10**7))
def test_a_ratio_written_with_three_digits_is_exact(thousandths, n):
    assert Budget(ratio=thousandths / 1000).amount(n) == thousandths * n // 1000


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("samples=10", Budget(samples=10)),
        ("tokens=2_000_000", Budget(tokens=2_000_000)),
        ("tokens=2e6", Budget(tokens=2_000_000)),
        ("ratio=0.2", Budget(ratio=0.2)),
        ("flops=2e19", Budget(flops=2e19)),
    ],
)
def test_budgets_from_the_command_line(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("flops", [2e19, 1e18, 123_456_789_123.0, 2.5e19 / 3])
def test_a_budget_of_flops_is_told_exactly(flops):
    budget = Budget(flops=flops)
    assert Budget.parse(str(budget)) == budget
    assert budget.unit == "flops"
    assert budget.amount(7) == int(flops)


def test_flops_behind_scores_are_a_sum_or_not_known():
    assert scores([1.0], spent={"a": 2e9, "b": 1e9}).flops == 3e9
    assert scores([1.0], spent={}).flops == 0
    assert scores([1.0]).flops is None


@pytest.mark.parametrize("text", ["10", "rows=10", "ratio=a fifth", "samples", "=3"])
def test_wrong_budgets_from_the_command_line(text):
    with pytest.raises(BudgetError):
        Budget.parse(text)


def test_a_selection_keeps_the_order_of_choice_as_rank():
    chosen = Selection.ranked([7, 2, 5], POOL, "m", {}, reasons=("a", "b"), why=[0, 1, 0])
    assert chosen.rows.tolist() == [2, 5, 7]
    assert chosen.rank.tolist() == [1, 2, 0]
    assert chosen.best_first().tolist() == [7, 2, 5]
    assert [chosen.reasons[w] for w in chosen.why] == ["b", "a", "a"]


@pytest.mark.parametrize("rows", [[2, 1], [1, 1], [-1, 2]])
def test_a_selection_is_a_set(rows):
    with pytest.raises(DataError, match="ascending, unique"):
        Selection(np.array(rows), POOL, "m")


def test_a_rank_is_a_permutation():
    with pytest.raises(DataError, match="permutation"):
        Selection(np.array([1, 2]), POOL, "m", rank=np.array([1, 1]))


def test_an_order_holds_each_row_once_an_epoch():
    order = TrainingOrder(np.array([3, 1, 1, 3]), POOL, "m", epochs=2, batch_size=3)
    assert order.steps == 2
    with pytest.raises(DataError, match="exactly 2 times"):
        TrainingOrder(np.array([3, 1, 1]), POOL, "m", epochs=2)
    with pytest.raises(ConfigError, match="epochs=0"):
        TrainingOrder(np.array([1]), POOL, "m", epochs=0)


def test_tables_say_what_they_are(tmp_path):
    pool = make_pool([{"id": name, "text": name} for name in "abc"], tmp_path)
    made = Scores(
        np.array([1.0, np.nan, 3.0]), higher_is_better=False, method="m",
        pool_fingerprint=pool.fingerprint, settings={"k": 1}, tasks=("t",),
        by_task=np.array([[1.0], [np.nan], [3.0]]), parts={"p": np.arange(3.0)}, missing={1: "none"},
    )  # fmt: skip
    table = made.to_table(pool)
    assert table.to_pylist()[1:] == [
        {"row": 1, "id": "b", "score": None, "task:t": None, "part:p": 1.0, "missing": "none"},
        {"row": 2, "id": "c", "score": 3.0, "task:t": 3.0, "part:p": 2.0, "missing": None},
    ]
    tables.write_scores(made, pool, tmp_path / "scores.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").equals(table, check_metadata=True)
    chosen = Selection.ranked(
        [2, 0], pool.fingerprint, "top_k", reasons=("best", "quota"), why=[0, 1]
    )
    assert chosen.to_table(pool, made).to_pylist() == [
        {"row": 0, "id": "a", "rank": 1, "score": 1.0, "why": "quota"},
        {"row": 2, "id": "c", "rank": 0, "score": 3.0, "why": "best"},
    ]
    assert chosen.to_table(pool).column("score").to_pylist() == [None, None]
    tables.write_selection(chosen, made, pool, tmp_path / "selection.parquet")
    written = pq.read_table(tmp_path / "selection.parquet")
    assert written.equals(chosen.to_table(pool, made), check_metadata=True)
    order = TrainingOrder(np.array([2, 0]), pool.fingerprint, "sort")
    assert order.to_table(pool).to_pylist() == [
        {"position": 0, "row": 2, "id": "c"},
        {"position": 1, "row": 0, "id": "a"},
    ]
    for value in (made, chosen, order):
        assert value.to_table().equals(value.to_table(pool).drop_columns("id"), check_metadata=True)
    for value in (
        scores([1.0]),
        Selection(np.array([0]), POOL, "m"),
        TrainingOrder(np.array([0]), POOL, "m"),
    ):
        with pytest.raises(PoolMismatchError):
            value.to_table(pool)


def test_tables_are_put_together_in_parts(tmp_path, monkeypatch):
    pool = make_pool([{"id": f"i{row}", "text": f"{row}"} for row in range(11)], tmp_path)
    made = Scores(np.arange(11.0), True, "m", pool.fingerprint)
    chosen = Selection.ranked(
        [9, 2, 5, 0, 7, 1, 10], pool.fingerprint, "top_k", reasons=("a", "b"), why=[0, 1] * 3 + [1]
    )
    order = TrainingOrder(chosen.best_first(), pool.fingerprint, "sort")
    whole = [chosen.to_table(pool, made), order.to_table(pool)]
    for module in ("value_tables", "scores"):
        monkeypatch.setattr(f"didact.core.{module}.TABLE_ROWS", 3)
    monkeypatch.setattr("didact.core.scores._VISITS", 1)
    monkeypatch.setattr("didact.core.scores._MOST_PARTS", 2)  # ids of six rows, then of one
    monkeypatch.setattr("didact.data.tables._GROUPED", 2)
    monkeypatch.setattr("didact.data.tables._READ_ROWS", 2)
    for table, parts in zip(whole, [chosen.batches(pool, made), order.batches(pool)], strict=True):
        found = list(parts)
        assert [len(batch) for batch in found] == [3, 3, 1]
        assert table.equals(type(table).from_batches(found), check_metadata=True)
    paths = [tmp_path / "selection.parquet", tmp_path / "order.parquet"]
    tables.write_selection(chosen, made, pool, paths[0])
    tables.write_order(order, pool, paths[1])
    for path, table in zip(paths, whole, strict=True):
        assert pq.read_metadata(path).num_row_groups == 2
        assert pq.read_table(path).equals(table, check_metadata=True)
    back = tables.read_selection(paths[0])
    assert back.rows.tolist() == chosen.rows.tolist()
    assert back.best_first().tolist() == [9, 2, 5, 0, 7, 1, 10]
    assert back.why.tolist() == chosen.why.tolist()
    assert tables.read_ids(paths[0]).to_pylist() == [f"i{row}" for row in chosen.rows]
    assert tables.read_order(paths[1]).rows.tolist() == order.rows.tolist()


def test_nothing_chosen_is_a_table_too(tmp_path):
    pool = make_pool([{"id": "a", "text": "a"}], tmp_path)
    tables.write_selection(
        Selection(np.array([]), pool.fingerprint, "m"), None, pool, tmp_path / "s"
    )
    tables.write_order(TrainingOrder(np.array([]), pool.fingerprint, "m"), pool, tmp_path / "o")
    assert not len(tables.read_selection(tmp_path / "s"))
    assert not len(tables.read_order(tmp_path / "o"))
