"""Before training: clean versions pass, and every planted fault is flagged with its rows."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

import didact
from didact.analysis.risk.before import judge_data
from didact.analysis.risk.flags import watched
from didact.analysis.risk.texts import Version
from didact.verbs import context

N = 150
WORDS = np.array([f"{a}{b}" for a in "bdfgklmnprst" for b in ("an", "ol", "ik", "es", "um", "ire")])


def rows(seed, n=N, source="web"):
    rng = np.random.default_rng([7, seed])
    weights = 1 / np.arange(1, len(WORDS) + 1)
    draw = rng.choice(WORDS, (n, 30), p=weights / weights.sum())
    return [
        {"id": f"{seed}-{i}", "text": " ".join(draw[i]), "source": f"{source}{i % 3}"}
        for i in range(n)
    ]


@pytest.fixture
def judge(tmp_path):
    """Versions given by rows → the last of them, watched."""

    def judged(*versions):
        opened = []
        for i, one in enumerate(versions):
            path = tmp_path / f"v{i}.jsonl"
            path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in one))
            pool = didact.read(path)
            opened.append(Version(f"v{i}", pool, np.arange(len(pool)), context()))
        found, cannot = judge_data(opened)[-1]
        return watched("last", 0, found, cannot)

    return judged


def kinds(found):
    return {flag.kind for flag in found.flags}


def test_clean_versions_are_clean(judge):
    # 12 series; were each flagged with probability .05 as the rule says, 4 or more would be so
    # with probability .002
    flagged = [judge(rows(2 * i), rows(2 * i + 1)).verdict == "flagged" for i in range(12)]
    assert sum(flagged) <= 3


def test_a_copied_shard_is_flagged_with_its_rows(judge):
    last = rows(1)[:120] + [{**r, "id": f"{r['id']} again"} for r in rows(1)[:30]]
    found = judge(rows(0), last)
    assert kinds(found) == {"redundancy", "copies"}
    (copies,) = [flag for flag in found.flags if flag.kind == "copies"]
    assert copies.rows.count == 30
    assert {row.row for row in copies.rows.worst} < set(range(120, 150))
    assert copies.rows.worst[0].why == f"repeats {copies.rows.worst[0].id.split()[0]}"
    assert copies.z > 4
    assert "deduplicate" in next(f for f in found.flags if f.kind == "redundancy").advice


def test_rows_of_the_previous_version_are_known(judge):
    found = judge(rows(0), rows(1)[:110] + [{**r, "id": f"old {r['id']}"} for r in rows(0)[:40]])
    assert kinds(found) == {"known"}
    assert found.flags[0].rows.count == 40
    assert found.flags[0].rows.worst[0].why == "repeats 0-0 of v0"


def test_a_version_that_adds_to_the_last_one_is_not_blamed_for_it(judge):
    found = judge(rows(0), rows(0) + rows(1))
    assert "known" not in {one.kind for one in found.judged}
    assert "v1 is v0 with more or fewer rows" in " ".join(found.cannot)
    assert found.verdict == "clean"


def test_a_version_delivered_twice_is_known(judge):
    again = [{**r, "id": f"again {r['id']}"} for r in reversed(rows(0))]
    assert kinds(judge(rows(0), again)) == {"known"}
    for n in (130, 60):  # a filter
        some = judge(rows(0), rows(0)[:n])
        assert some.verdict == "clean"
        assert "with more or fewer rows" in " ".join(some.cannot)


def test_a_tiny_version_among_the_earlier_ones_hides_nothing(judge):
    last = rows(9)[:120] + [{**r, "id": f"{r['id']} again"} for r in rows(9)[:30]]
    assert {"copies", "redundancy"} <= kinds(judge(rows(8, 51), rows(0), last))
    seen = {one.kind: one.seen for one in judge(rows(8, 51), rows(0), last).judged}
    assert seen["copies"] > 0.1


def test_a_source_that_grew_is_flagged_and_named(judge):
    found = judge(rows(0), rows(1)[:120] + rows(2, 30, source="forum"))
    assert {(flag.kind, flag.source) for flag in found.flags} == {
        ("source", "forum0"), ("source", "forum1"), ("source", "forum2"),
    }  # fmt: skip
    assert found.flags[0].rows.count == 10
    assert found.flags[0].rows.worst[0].row >= 120


def test_earlier_versions_are_the_measure_once_there_are_five(judge):
    # each version has a shard twice, so that one more of the kind is nothing new
    def usual(seed):
        shard = rows(seed)[: 25 + 2 * (seed % 3)]
        return rows(seed)[:120] + [{**r, "id": f"{r['id']} again"} for r in shard]

    assert "copies" not in kinds(judge(*[usual(i) for i in range(6)]))
    assert {"copies", "redundancy"} <= kinds(judge(*[rows(i) for i in range(5)], usual(5)))
