"""What an evaluation comes to, against arithmetic by hand; intervals, by simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from didact.core.errors import DataError
from didact.evaluation.intervals import ratio_interval, share_interval
from didact.evaluation.results import (
    SCHEMA,
    Evaluation,
    read_evaluation,
    summarise,
    write_evaluation,
)


def row(i: int, **more: object) -> dict[str, object]:
    return {
        "file": "f", "row": i, "id": f"r{i}", "source": "s", "task": "", "answer_nats": 1.0 + i,
        "answer_bytes": 2, "answer_tokens": 1, "all_nats": 3.0, "all_bytes": 4, "all_tokens": 2,
        "choice_nats": None, "choice_bytes": None, "choice_chars": None, "right": None, **more,
    }  # fmt: skip


def choice(i: int, nats: list[float], right: int, chars: list[int] | None = None):
    chars = chars or [1] * len(nats)
    return row(i, choice_nats=nats, choice_bytes=chars, choice_chars=chars, right=right)


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)


def values(found: list[dict], **where: str) -> dict[str, dict]:
    want = {"source": "", "task": "", **where}
    return {r["metric"]: r for r in found if all(r[k] == v for k, v in want.items())}


def test_bits_per_byte_is_a_ratio_of_sums_in_all_by_source_and_by_task():
    rows = [
        row(0, answer_nats=8.0, answer_bytes=2, source="a", task="x"),
        row(1, answer_nats=1.0, answer_bytes=10, source="a", task="y"),
        row(2, answer_nats=3.0, answer_bytes=4, source="b", task="x"),
        row(3, answer_nats=0.0, answer_bytes=0, source="b", task="x"),  # no answer: no sample
    ]
    found = summarise(table(*rows), model="m")
    ln2 = math.log(2)
    assert values(found)["bits_per_byte"]["value"] == pytest.approx(12 / 16 / ln2)
    assert values(found)["bits_per_byte"]["n"] == 3
    assert values(found)["bits_per_byte_all"]["value"] == pytest.approx(3 / 4 / ln2)
    assert values(found, source="a")["bits_per_byte"]["value"] == pytest.approx(9 / 12 / ln2)
    assert values(found, task="x")["bits_per_byte"]["value"] == pytest.approx(11 / 6 / ln2)
    alone = values(found, source="b")["bits_per_byte"]
    assert (alone["n"], alone["low"], alone["high"]) == (1, None, None)
    for record in found:
        assert set(record) == {"model", "file", "task", "source", "metric", "higher_is_better",
                               "value", "low", "high", "n", "unit"}  # fmt: skip
        assert (record["model"], record["file"], record["unit"]) == ("m", "f", "samples")
        assert record["higher_is_better"] is False


def test_options_that_tie_share_the_point():
    rows = [choice(0, [1.0, 1.0, 2.0], 0), choice(1, [5.0, 1.0], 1, [10, 1])]
    found = summarise(table(*rows, choice(2, [2.0, 2.0], 1), row(3)))
    got = values(found)
    assert got["accuracy"]["value"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert got["accuracy_per_char"]["value"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)
    assert got["chance"]["value"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert got["chance"]["low"] is None
    assert got["margin"]["value"] == pytest.approx((0 + 4 + 0) / 3)
    assert got["answer_nats_per_char"]["value"] == pytest.approx((1 + 1 + 2) / 3)
    shares = [1 / (2 + math.exp(-1)), 1 / (1 + math.exp(-4)), 1 / 2]
    assert got["answer_probability"]["value"] == pytest.approx(np.mean(shares))
    assert got["accuracy"]["n"] == 3
    assert got["bits_per_byte"]["n"] == 4


def test_files_are_told_apart():
    found = summarise(table(row(0, file="a"), row(0, file="b", answer_nats=9.0)))
    assert values(found, file="a")["bits_per_byte"]["value"] == pytest.approx(0.5 / math.log(2))
    assert values(found, file="b")["bits_per_byte"]["value"] == pytest.approx(4.5 / math.log(2))


def test_the_interval_of_a_ratio_covers_it_in_95_of_100_samples():
    """Long-tailed lengths, nats that grow with them; 2,000 draws: its standard error is 0.5 %."""
    random = np.random.default_rng(1)
    rate, n, draws = 0.8, 200, 2000
    lengths = random.lognormal(4, 0.8, (draws, n))
    nats = lengths * rate * random.gamma(9, 1 / 9, (draws, n))
    found = [ratio_interval(a, b) for a, b in zip(nats, lengths, strict=True)]
    covered = np.mean([low <= rate <= high for low, high in found])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("share", "n"), [(0.2, 50), (0.5, 100), (0.03, 300), (0.9, 40)])
def test_the_interval_of_a_share_covers_it_in_95_of_100_samples(share, n):
    hits = np.random.default_rng(2).binomial(n, share, 4000)
    ends = np.asarray([share_interval(float(h), n) for h in hits])
    covered = np.mean((ends[:, 0] <= share) & (share <= ends[:, 1]))
    assert covered == pytest.approx(0.95, abs=0.03)  # hits are whole numbers


def test_intervals_at_the_ends():
    assert share_interval(0, 10)[0] == 0.0
    assert share_interval(10, 10)[1] == 1.0
    assert 0 < share_interval(0, 10)[1] < 0.3
    assert ratio_interval(np.ones(1), np.ones(1)) == (None, None)
    assert ratio_interval(np.full(5, 2.0), np.ones(5)) == pytest.approx((2.0, 2.0))


def test_a_table_comes_back_as_it_was_written(tmp_path):
    made = Evaluation(table(choice(0, [1.0, 2.0], 0), row(1)), {"model": "m", "notes": ["é"]})
    write_evaluation(made, tmp_path / "run" / "evaluation.parquet")
    for place in (tmp_path / "run", tmp_path / "run" / "evaluation.parquet"):
        found = read_evaluation(place)
        assert found.table.equals(made.table)
        assert dict(found.meta) == dict(made.meta)
        assert found.notes == ("é",)
    assert found.summary() == summarise(made.table, model="m")
    raw = pq.read_schema(tmp_path / "run" / "evaluation.parquet").metadata[b"didact"]
    assert json.loads(raw)["table"] == "evaluation"


def test_what_is_no_evaluation_is_refused(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"cut.parquet: not a readable Parquet"):
        read_evaluation(tmp_path / "cut.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other.parquet: is a table without its metadata"):
        read_evaluation(tmp_path / "other.parquet")
    bad = Evaluation(table(row(0), row(1, answer_nats=math.nan)), {"model": "m"})
    write_evaluation(bad, tmp_path / "nan.parquet")
    with pytest.raises(DataError, match=r"nan.parquet: row 2: answer_nats is nan"):
        read_evaluation(tmp_path / "nan.parquet")
