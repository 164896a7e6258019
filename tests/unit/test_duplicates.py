"""`dedup`: what goes for what, which row stays, and what is written."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

import didact
from didact import duplicates
from didact.cli.dedup import dedup as command
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.core.locks import alone_in
from didact.selection.around.distinct import EXCERPT, parted
from didact.testing import chat, make_pool

LANGUAGES = {
    "en": "the river runs past a quiet town where old boats wait for spring rain and light",
    "ar": "النهر يجري قرب بلدة هادئة حيث تنتظر القوارب القديمة مطر الربيع والضوء",
    "ru": "река течёт мимо тихого города где старые лодки ждут весеннего дождя и света",
    "tr": "ırmak sessiz bir kasabanın yanından geçer eski tekneler yağmuru ve ışığı bekler",
    "th": "แม่น้ำไหลผ่านเมืองที่เงียบสงบ",
    "zh": "河水流过安静的小镇旧船在等待春雨和阳光",
    "code": "def return self index value for in range if else None = ( ) : + [ ]",
}
APART = {"th", "zh"}


def written(language, words):
    return ("" if language in APART else " ").join(words)


def pool_of(texts, place, **columns):
    rows = [
        {"id": f"r{i}", "text": text, **{name: of[i] for name, of in columns.items()}}
        for i, text in enumerate(texts)
    ]
    return make_pool(rows, place)


@pytest.mark.parametrize("language", LANGUAGES)
def test_copies_are_found_in_every_language_and_in_code(language, tmp_path):
    rng = np.random.default_rng(3)
    known = LANGUAGES[language]
    known = list(known) if language in APART else known.split()
    texts = [[str(w) for w in rng.choice(known, 400)] for _ in range(6)]
    near = [*texts[1][:200], "x1", *texts[1][201:]]
    other = [*texts[2][:200], *texts[3][200:]]  # half of two others
    rows = [*texts, near, texts[4], other]
    pool = pool_of([written(language, row) for row in rows], tmp_path)
    found = didact.dedup(pool)
    assert found.kept.rows.tolist() == [0, 1, 2, 3, 4, 5, 8]
    assert found.stands[[6, 7]].tolist() == [1, 4]
    assert found.copy.tolist() == [False] * 7 + [True, False]
    assert 0.9 < found.similarity[6] < 1
    assert found.similarity[7] == 1


def words(rng, n):
    return [f"w{number}" for number in rng.integers(0, 50_000, n)]


@pytest.fixture(name="texts")
def _texts():
    """Rows 0, 2 and 5 are a cluster, 3 is a copy of 2, 1 is a copy of 6; 4 is alone."""
    rng = np.random.default_rng(1)
    one, other, last = (words(rng, 200) for _ in range(3))
    longer = [*one, "and", "more"]
    longest = [*one[:100], "else", *one[101:], "and", "more", "of"]
    rows = (one, other, longer, longer, last, longest, other)
    return [" ".join(row) for row in rows]


def test_the_first_stays_or_the_longest_or_the_best(texts, tmp_path):
    pool = pool_of(texts, tmp_path, votes=[3, 1, 9, 9, 4, 5, 2])
    stands = {
        "first": [0, 1, 0, 0, 4, 0, 1],
        "longest": [5, 1, 5, 5, 4, 5, 1],
        "votes": [2, 6, 2, 2, 4, 2, 6],
    }
    for keep, expected in stands.items():
        assert didact.dedup(pool, keep=keep).stands.tolist() == expected, keep
    worst = didact.score(pool, "column", name="votes", prefer="lower")
    by_worst = didact.dedup(pool, keep=worst)
    assert by_worst.stands.tolist() == [0, 1, 0, 0, 4, 0, 1]
    assert by_worst.settings["keep"]["settings"] == {**worst.settings}
    by_name = didact.dedup(pool, keep="votes").settings["keep"]
    assert by_name["method"] == "column"
    assert by_name["settings"]["name"] == "votes"


def test_clusters_are_a_table_and_counts(texts, tmp_path):
    pool = pool_of(texts, tmp_path, source=["a", "b", "a", "c", "c", "c", "b"])
    found = didact.dedup(pool)
    table = found.to_table(pool)
    assert table.column("cluster").to_pylist() == [0, 0, 0, 0, 1, 1]
    assert table.column("row").to_pylist() == [0, 2, 3, 5, 1, 6]
    assert table.column("id").to_pylist() == ["r0", "r2", "r3", "r5", "r1", "r6"]
    assert table.column("source").to_pylist() == ["a", "a", "c", "c", "b", "b"]
    assert table.column("what").to_pylist() == ["kept", "near", "exact", "near", "kept", "exact"]
    assert table.column("excerpt").to_pylist() == [
        texts[row][:EXCERPT] for row in (0, 2, 3, 5, 1, 6)
    ]
    near = table.column("similarity").to_pylist()
    assert near[0] == near[4] == near[5] == 1
    assert near[1] == near[2] < 1  # a copy is as near as what it copies
    counts = found.describe(pool)
    assert counts["rows"] == counts["rows_kept"] + counts["exact_copies"] + counts["near_copies"]
    assert (counts["exact_copies"], counts["near_copies"], counts["clusters"]) == (2, 2, 2)
    assert counts["bytes_saved"] == sum(len(texts[row]) for row in (2, 3, 5, 6))
    largest, second = found.largest(pool, rows=3)
    assert (largest["rows"], largest["exact"], largest["near"]) == (4, 1, 2)
    assert largest["sources"] == {"a": 2, "c": 2}
    assert [one["row"] for one in largest["samples"]] == [0, 5, 2]  # the least like it first
    assert "else" in largest["samples"][1]["excerpt"]
    assert second["samples"][1]["what"] == "exact"


def test_a_text_is_shown_from_where_it_parts():
    assert parted("same", "same") == "same"
    assert parted("b" + "a" * 999, "a" * 999) == "b" + "a" * (EXCERPT - 1)
    assert parted("a" * 500 + "other end", "a" * 500 + "the end") == f"…{'a' * 30}other end"


def test_answers_to_another_question_over_the_same_text_are_told(tmp_path):
    rng = np.random.default_rng(2)
    article = " ".join(words(rng, 300))
    rows = [
        chat(f"c{i}", f"{article} {question}", answer)
        for i, (question, answer) in enumerate(
            [("who was it", "Ada"), ("who was this", "Ada"), ("where was it", "London")]
        )
    ]
    pool = make_pool(rows, tmp_path)
    found = didact.dedup(pool)
    counts = found.describe(pool)
    assert (counts["near_copies"], counts["near_copies_that_answer_otherwise"]) == (2, 1)
    assert "near_copies_that_answer_otherwise" not in found.counts(pool)
    (note,) = duplicates.notes(counts)
    assert note.startswith("1 of 2 near copies answers otherwise")
    (note,) = duplicates.notes({"near_copies": 1, "near_copies_that_answer_otherwise": 1})
    assert note.startswith("1 of 1 near copy answers otherwise")
    plain = pool_of([article, f"{article} x"], tmp_path / "plain")
    assert duplicates.notes(didact.dedup(plain).describe(plain)) == ()


def labelled_row(id_, answer, label):
    return {"id": id_, "prompt": "Which is it?", "completion": answer, "label": label}


@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_answers_of_other_labels_are_not_near(column, tmp_path):
    answer = " ".join(words(np.random.default_rng(5), 100))
    said = [(answer, True), (answer, False), (answer, True), (f"{answer} x", 0)]
    rows = [labelled_row(f"l{i}", *one) for i, one in enumerate(said)]
    rows = [{column if k == "label" else k: v for k, v in row.items()} for row in rows]
    pool = make_pool(rows, tmp_path)
    assert pool.kind == "labelled"
    assert didact.dedup(pool).stands.tolist() == [0, 1, 0, 1]


def pair(id_, chosen, rejected, prompt="Which of the two is it that you like?"):
    return {"id": id_, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_pairs_that_prefer_the_opposite_are_not_near(tmp_path):
    rng = np.random.default_rng(6)
    one, other, question = (" ".join(words(rng, 200)) for _ in range(3))
    alike = one.replace(one.split()[100], "changed")
    said = [
        (one, other), (f"{other} more", one), (f"{one} more", other),
        (one, alike), (alike, one), (f"{one} more", alike),
        ("yes", "no"), ("no", "yes"), ("👍", "👎"), ("👎", "👍"),
    ]  # fmt: skip
    rows = [
        pair(f"p{i}", *two, question if len(two[0]) < 9 else "Which?") for i, two in enumerate(said)
    ]
    pool = make_pool(rows, tmp_path)
    assert pool.kind == "pair"
    found = didact.dedup(pool)
    assert found.stands.tolist() == [0, 1, 0, 3, 4, 3, 6, 7, 8, 9]
    assert found.describe(pool)["near_copies_that_answer_otherwise"] == 2


def test_short_answers_that_were_edited_do_not_hide_the_opposite(tmp_path):
    question = " ".join(words(np.random.default_rng(7), 200))
    said = [
        ("Yes it should stay", "No it must be sold"),
        ("no, it really must be sold", "yes, it really should stay"),  # the opposite
        ("yes, it really should stay", "no, it really must be sold"),  # the same
        ("4.", "5."), ("a quarter", "a half"),  # nothing in common: nobody can tell
        ("是的，应该保留", "不，必须卖掉"), ("不，它必须卖掉吧", "是的，它应该保留吧"),
    ]  # fmt: skip
    pool = make_pool([pair(f"p{i}", *two, question) for i, two in enumerate(said)], tmp_path)
    assert didact.dedup(pool).stands.tolist() == [0, 1, 0, 3, 4, 5, 6]


def test_the_validation_split_is_left_as_it_is(texts, tmp_path):
    path = tmp_path / "pool.jsonl"
    rows = [{"id": f"{i}", "text": text} for i, text in enumerate(texts * 8)]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    pool = didact.read(path, validation=0.3, dedup="none")
    held = np.flatnonzero(pool.in_validation)
    assert 0 < len(held) < len(pool)
    found = didact.dedup(pool)
    assert (found.stands[held] == -1).all()
    assert not np.isin(found.stands, held).any()
    counts = found.describe(pool)
    assert counts["validation_rows"] == len(held)
    left = counts["rows_kept"] + counts["exact_copies"] + counts["near_copies"]
    assert left == len(pool) - len(held)


def test_what_is_written_is_the_rows_as_they_came_and_the_clusters(texts, tmp_path):
    path = tmp_path / "pool.jsonl"
    lines = [b'{"text" : %s, "n": %d}\n' % (orjson.dumps(text), i) for i, text in enumerate(texts)]
    path.write_bytes(b"".join(lines))
    pool = didact.read(path)
    found = didact.dedup(pool)
    out = tmp_path / "out"
    files = duplicates.write_distinct(pool, found, out)
    assert [file.name for file in files] == ["train.jsonl", "clusters.parquet", "clusters.html"]
    assert files[0].read_bytes() == lines[0] + lines[1] + lines[4]
    table = pq.read_table(files[1])
    assert table.equals(found.to_table(pool))
    meta = json.loads(table.schema.metadata[b"didact"])
    assert meta["settings"]["similarity"] == 0.8
    assert meta["pool_fingerprint"] == pool.fingerprint
    page = files[2].read_text("utf-8")
    assert "4 duplicates in 2 clusters" in page
    # the folder is data: its tables are none
    assert len(didact.read(out)) == 3
    again = duplicates.write_distinct(pool, found, out, shards=2)
    assert not files[0].exists()
    assert [file.name for file in again][:2] == [
        "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl",
    ]  # fmt: skip


def test_a_folder_that_holds_something_else_is_left_alone(texts, tmp_path):
    pool = pool_of(texts, tmp_path / "pool")
    found = didact.dedup(pool)
    for name in ("train.jsonl", "clusters.parquet"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(DataError, match="is no file of an earlier export"):
            duplicates.write_distinct(pool, found, out)
        assert (out / name).read_text() == "mine"
    busy = tmp_path / "busy"
    with alone_in(busy), pytest.raises(ConfigError, match="another command is writing"):
        duplicates.write_distinct(pool, found, busy)


def test_nothing_to_remove(tmp_path):
    rng = np.random.default_rng(4)
    one = pool_of([" ".join(words(rng, 50)) for _ in range(3)], tmp_path / "one")
    found = didact.dedup(one)
    assert found.kept.rows.tolist() == [0, 1, 2]
    assert found.largest(one) == []
    files = duplicates.write_distinct(one, found, tmp_path / "out")
    assert "There are none." in files[-1].read_text("utf-8")
    assert len(pq.read_table(files[-2])) == 0
    signs = didact.dedup(pool_of(["!!", "??", "!!"], tmp_path / "signs"))
    assert signs.stands.tolist() == [0, 1, 0]  # texts without words are near to none


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": 0.2}, "similarity"),
        ({"similarity": "much"}, "similarity"),
        ({"shingles": 3}, "unknown setting"),
        ({"keep": "longets"}, "is none of first, longest, and no column"),
        ({"keep": "vote"}, r"a number; did you mean 'votes'\? \(known: first, longest, votes\)$"),
    ],
)
def test_wrong_settings_say_what_is_expected(settings, message, texts, tmp_path):
    with pytest.raises(ConfigError, match=message):
        didact.dedup(pool_of(texts, tmp_path, votes=range(7)), **settings)


def test_a_setting_that_the_command_has_not(tmp_path):
    with pytest.raises(
        ConfigError, match="--set ngrams: unknown setting; did you mean 'ngram'"
    ) as e:
        command([tmp_path / "pool.jsonl"], tmp_path / "out", set_=["ngrams=3"])
    assert "(known: format, name, ngram, order_index, permutations, shards)" in str(e.value)


def test_another_pool_is_refused(texts, tmp_path):
    pool, other = pool_of(texts, tmp_path / "a"), pool_of(texts[:3], tmp_path / "b")
    found = didact.dedup(pool)
    with pytest.raises(PoolMismatchError, match="pass the pool that was deduplicated"):
        found.describe(other)
    with pytest.raises(PoolMismatchError):
        didact.dedup(pool, keep=didact.score(other, "length"))


def test_workers_change_nothing_and_the_cost_is_known(texts, tmp_path):
    pool = pool_of(texts, tmp_path / "pool")
    found = []
    for workers in (1, 3):
        ctx = didact.context(workers=workers, cache_dir=tmp_path / f"cache{workers}")
        found.append(didact.dedup(pool, ctx=ctx))
        assert ctx.meter.bill.charged.cpu_seconds > 0
        again = didact.context(cache_dir=tmp_path / f"cache{workers}")
        didact.dedup(pool, ctx=again)
        assert again.meter.bill.charged.cpu_seconds < ctx.meter.bill.value.cpu_seconds
        assert again.meter.bill.value.cpu_seconds > 0
    assert np.array_equal(found[0].stands, found[1].stands)
    assert np.array_equal(found[0].similarity, found[1].similarity)
