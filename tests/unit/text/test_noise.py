"""What is noise in a pool: cohesion against its definition, every kind of noise, false alarms."""

from __future__ import annotations

import base64
import gzip
import json
import math
import random
import re
import statistics
from collections import Counter
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pytest
import zstandard

from didact.selection.around.budget import candidates
from didact.testing import make_pool
from didact.text import noise
from didact.text.noise import WordPairs, misdecoded, noise_notes, noisy
from didact.text.words import hash_words

SUBJECTS = [
    "the old sailor",
    "my sister",
    "a young teacher",
    "the mayor",
    "our neighbor",
    "the cook",
]
VERBS = [
    "wrote a long letter to",
    "had lunch with",
    "was waiting for",
    "could not find",
    "sold a boat to",
]
OBJECTS = ["the captain of the ship", "his best friend", "a man from the city", "her two children"]
ENDS = [
    "last summer",
    "on the way home",
    "because of the rain",
    "in the small garden",
    "at the station",
]


def sentences(rng, n):
    parts = (SUBJECTS, VERBS, OBJECTS, ENDS)
    return " ".join(" ".join(rng.choice(p) for p in parts).capitalize() + "." for _ in range(n))


def arrow(texts):
    return pa.array(texts, pa.large_string())


def planted(texts, n, rng):
    """`n` rows of each kind of noise, the salad from the words of `texts`."""
    words = [w for t in texts for w in t.split()]
    letters = "abcdefghijklmnopqrstuvwxyz"
    keys = ["qwertyuiop", "asdfghjkl", "zxcvbnm"]

    def encoded():
        return base64.b64encode(rng.randbytes(300)).decode()

    def cut(text):
        out = []
        while text:
            size = rng.randint(2, 10)
            out.append(text[:size])
            text = text[size:]
        return " ".join(out)

    def run():
        row, size = rng.choice(keys), rng.randint(2, 9)
        if rng.random() < 0.5:
            return "".join(rng.choice(letters) for _ in range(size))
        at = rng.randrange(len(row))
        return "".join(row[(at + i * rng.choice((1, 1, -1))) % len(row)] for i in range(size))

    return {
        "base64": [encoded() for _ in range(n)],
        "one word": [rng.randbytes(200).hex() for _ in range(n)],
        "base64 with spaces": [cut(encoded()) for _ in range(n)],
        "salad": [" ".join(rng.choices(words, k=rng.randint(40, 120))) for _ in range(n)],
        "mash": [" ".join(run() for _ in range(rng.randint(30, 90))) for _ in range(n)],
    }


def pool_with(texts, kinds, folder):
    rows = [{"id": f"t{i}", "text": t, "source": "text"} for i, t in enumerate(texts)]
    for kind, found in kinds.items():
        rows += [{"id": f"{kind}{i}", "text": t, "source": kind} for i, t in enumerate(found)]
    random.Random(0).shuffle(rows)
    return make_pool(rows, folder)


def shares(pool, suspects, rows):
    codes = pool.source_codes[rows]
    return {name: suspects[codes == i].mean() for i, name in enumerate(pool.source_names)}


# -- cohesion --------------------------------------------------------------------------------------


def cohesion_by_hand(texts, counted):
    """Both shares straight from the definition: counters of words and pairs, no hashes."""
    split = [t.lower().split() for t in texts]
    words = Counter(w for i in counted for w in split[i])
    pairs = Counter(p for i in counted for p in pairwise(split[i]))
    total = sum(words.values())
    cohesion, strangeness = [], []
    for i, own in enumerate(split):
        less = int(i in counted)
        log = 0.0
        for a, b in pairwise(own):
            chance = max(words[a] - less, 0) * max(words[b] - less, 0) / total
            log += math.log((max(pairs[a, b] - less, 0) + 0.5) / (chance + 0.5))
        pieces = len(texts[i].encode()) / noise.WORD_BYTES
        cohesion.append(log / max(len(own) - 1, pieces, 1))
        strangeness.append(sum(words[w] <= less for w in own) / max(len(own), pieces, 1))
    return cohesion, strangeness


def test_cohesion_and_strangeness_are_their_definitions():
    rng = random.Random(4)
    texts = [sentences(rng, rng.randint(0, 3)).replace(".", "") for _ in range(60)]
    texts += ["", "one", "x" * 300, "a " * 40, "the zyx sister wvu wvu"]
    counted = np.arange(len(texts)) % 3 != 0
    pairs = WordPairs(10**6)
    pairs.add(hash_words(arrow([t for t, c in zip(texts, counted, strict=True) if c])))
    lengths = np.array([len(t) for t in texts])
    got = pairs.cohesion(hash_words(arrow(texts)), lengths, counted)
    expected = cohesion_by_hand(texts, set(np.flatnonzero(counted).tolist()))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert got[1][-1] == 1 / 5  # "zyx"; "wvu" is met again
    assert max(got[1]) == 1


def test_pairs_do_not_reach_from_one_text_into_the_next():
    pairs = WordPairs(10**5)
    pairs.add(hash_words(arrow(["new york"] * 20 + ["york new"])))
    got, _ = pairs.cohesion(hash_words(arrow(["york new"])), np.array([8]), np.array([False]))
    chance = 21 * 21 / 42
    assert got == pytest.approx([math.log(1.5 / (chance + 0.5))])


def test_a_word_of_many_bytes_counts_as_several():
    pairs = WordPairs(10**5)
    pairs.add(hash_words(arrow(["good morning"] * 9)))
    long = "good morning " + "x" * 307
    words = hash_words(arrow([long]))
    cohesion, strangeness = pairs.cohesion(words, np.array([320]), np.array([False]))
    chance = 9 * 9 / 18
    assert cohesion == pytest.approx([math.log(9.5 / (chance + 0.5)) / 10])
    assert strangeness == pytest.approx([1 / 10])


# -- noisy -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    rng = random.Random(1)
    texts = [sentences(rng, rng.randint(1, 8)) for _ in range(400)]
    return pool_with(texts, planted(texts, 8, rng), tmp_path_factory.mktemp("noise"))


def test_every_kind_of_noise_is_found_and_no_sentence(mixed):
    rows = candidates(mixed, None)
    found = shares(mixed, noisy(mixed, rows, 0.3), rows)
    assert found.pop("text") == 0
    assert len(found) == 5
    assert min(found.values()) == 1


def test_a_score_is_what_the_definition_says(mixed):
    rows = candidates(mixed, None)
    texts = mixed.read(rows, ["text"]).column("text").to_pylist()
    stripped = [" ".join(re.findall(r"\w+", t)) for t in texts]
    lengths = [len(t.encode()) for t in texts]
    cohesion, strangeness = cohesion_by_hand(stripped, set(range(len(texts))))
    typical, usual = statistics.median(cohesion), statistics.median(strangeness)
    for strictness in (0.1, 0.3, 0.7):
        expected = [
            (c / typical * n - (s - usual) * min(n, 96) + 40) / (n + 40) < strictness
            for c, s, n in zip(cohesion, strangeness, lengths, strict=True)
        ]
        found = noisy(mixed, rows, strictness)
        agree = found == np.array(expected)
        assert agree.mean() > 0.99, strictness  # punctuation has length too
        assert 30 < found.sum() < len(rows)


@pytest.mark.parametrize("size", [24, 40, 60])
def test_short_noise_is_found_and_short_sentences_are_not(size, tmp_path):
    rng = random.Random(6)
    texts = [sentences(rng, rng.randint(1, 6)) for _ in range(400)]
    short = [" ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS)) for _ in range(60)]
    junk = {kind: [t[:size] for t in found] for kind, found in planted(texts, 8, rng).items()}
    del junk["salad"]  # words in random order need more to show it
    pool = pool_with([*texts, *short], junk, tmp_path)
    rows = candidates(pool, None)
    found = shares(pool, noisy(pool, rows, 0.3), rows)
    assert found.pop("text") == 0
    assert found.pop("mash") > 0.6  # short words are somebody's
    assert min(found.values()) == 1


def test_a_name_nobody_else_mentions_is_not_noise(tmp_path):
    rng = random.Random(7)
    texts = [sentences(rng, rng.randint(1, 6)) for _ in range(400)]
    names = ["Ignacy Paderewski", "Vasilyevich", "1947-03-21", "yes", "Llanfair", "Xq"]
    asked = [f"{rng.choice(SUBJECTS)} had lunch with {name}" for name in names]
    pool = pool_with([*texts, *names, *asked], {}, tmp_path)
    assert not noisy(pool, candidates(pool, None), 0.3).any()


def test_what_is_told():
    suspects = np.array([True, False, True])
    assert noise_notes(suspects, 1, 0.3) == (
        "2 of 3 rows look like noise (noise=0.3) and come last; 1 of them are chosen",
    )
    assert noise_notes(np.zeros(3, np.bool_), 0, 0.3) == ()


def test_strictness_orders_what_is_found(mixed):
    rows = candidates(mixed, None)
    found = [noisy(mixed, rows, s) for s in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert all((a <= b).all() for a, b in pairwise(found))
    assert found[0].sum() < found[2].sum() < found[-1].sum()


def test_only_candidates_count(mixed):
    rows = candidates(mixed, None)[::2]
    alone = noisy(mixed, rows, 0.3)
    names = [mixed.source_names[c] for c in mixed.source_codes[rows]]
    rebuilt = make_pool(
        [
            {"id": str(i), "text": t, "source": s}
            for i, (t, s) in enumerate(
                zip(mixed.read(rows, ["text"]).column("text").to_pylist(), names, strict=True)
            )
        ],
        mixed.path.parent / "half",
    )
    assert noisy(rebuilt, np.arange(len(rebuilt)), 0.3).tolist() == alone.tolist()


def test_noise_does_not_vouch_for_its_copies(tmp_path):
    rng = random.Random(2)
    texts = [sentences(rng, rng.randint(1, 8)) for _ in range(200)]
    junk = planted(texts, 2, rng)
    thrice = {kind: found * 3 for kind, found in junk.items()}
    rows = [{"id": f"t{i}", "text": t, "source": "text"} for i, t in enumerate(texts)]
    for kind, found in thrice.items():
        rows += [{"id": f"{kind}{i}", "text": t, "source": kind} for i, t in enumerate(found)]
    pool = make_pool(rows, tmp_path, dedup="none")
    everything = candidates(pool, None)
    assert len(everything) == len(rows)
    found = shares(pool, noisy(pool, everything, 0.3), everything)
    assert found.pop("text") == 0
    assert set(found.values()) == {1.0}


def test_where_nothing_is_usual_nothing_is_noise(tmp_path):
    rng = random.Random(3)
    junk = [" ".join(rng.randbytes(5).hex() for _ in range(30)) for _ in range(40)]
    pool = pool_with(junk, {}, tmp_path)
    assert not noisy(pool, np.arange(len(pool)), 0.3).any()


def test_no_rows_and_one_row(tmp_path):
    pool = pool_with(["just one"], {}, tmp_path)
    assert noisy(pool, np.empty(0, np.int64), 0.3).tolist() == []
    assert noisy(pool, np.array([0]), 0.3).tolist() == [False]


def test_in_a_large_pool_pairs_are_counted_in_a_part(mixed, monkeypatch):
    rows = candidates(mixed, None)
    monkeypatch.setattr(noise, "_COUNTED_BYTES", int(mixed.n_bytes.sum()) // 3)
    found = shares(mixed, noisy(mixed, rows, 0.3), rows)
    assert found.pop("text") == 0
    assert min(found.values()) == 1


def test_texts_come_with_their_places(mixed):
    rows = np.array([0, 3, 4, len(mixed) - 1])
    got = [""] * len(rows)
    for part, texts in mixed.texts(rows):
        got[part] = texts.to_pylist()
    assert got == mixed.read(rows, ["text"]).column("text").to_pylist()


# -- misdecoded ------------------------------------------------------------------------------------

RIGHT = [
    "plain ASCII",
    "",
    "Café crème, naïve façade, Ça va? Où êtes-vous?",
    "Größe, Straße, Spaß“ und Übermut",
    "“CAFÉ” — said the sign",
    "Voilà\xa0! «\xa0Déjà\xa0»",
    "Привет, мир. Как дела?",
    "今天天气很好，我们去公园散步吧。",
    "吾輩は猫である。名前はまだ無い。",
    "오늘 날씨가 좋네요",
    "مرحبا بالعالم",
    "price: 5 € or £4, ±2 °C, § 3, ½ cup ©",
    "emoji 🙂 and math ∑ ≤ ∞ → x²",
    "An article on encodings shows Ã© where é should be, and Größe, Straße, Übung are right.",
]


@pytest.mark.parametrize("text", RIGHT)
def test_text_in_its_right_encoding_is_not_misdecoded(text):
    assert misdecoded(arrow([text])).tolist() == [False]


def spoiled(text, table, times):
    for _ in range(times):
        data = text.encode()
        text = data.decode("latin-1") if table == "latin-1" else data.decode("cp1252", "ignore")
    return text


@pytest.mark.parametrize("table", ["latin-1", "cp1252"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at", [2, 6, 7, 8, 9, 10])
def test_misdecoded_text_is_found(at, times, table):
    wrong = spoiled(RIGHT[at], table, times)
    assert wrong != RIGHT[at]
    assert misdecoded(arrow(["fine", wrong, None])).tolist() == [False, True, False]


# -- real data -------------------------------------------------------------------------------------


def real_rows(folder, name, n):
    with zstandard.open(folder / f"{name}.jsonl.zst", "rt", encoding="utf-8") as file:
        return [
            {k: v for k, v in orjson.loads(line).items() if k != "meta"}
            for line, _ in zip(file, range(n), strict=False)
        ]


def test_on_a_real_pool_noise_is_found_and_hardly_anything_else(real_data, tmp_path):
    rows = real_rows(real_data, "instruct_small", 4400)
    chinese = json.loads(
        gzip.decompress((real_data / "formats/alpaca_zh_demo.json.gz").read_bytes())
    )
    chats = [r["messages"][1]["content"] for r in rows]
    accented = [t for r in rows if not (t := r["messages"][1]["content"]).isascii() and len(t) > 40]
    junk = planted(chats, 30, random.Random(5))
    junk["mojibake"] = [spoiled(t, "latin-1", 1 + i % 2) for i, t in enumerate(accented[:30])]
    for kind, found in junk.items():
        rows += [{"id": f"{kind}{i}", "text": t, "source": kind} for i, t in enumerate(found)]
    rows += [
        {"id": f"zh{i}", "text": f"{r['instruction']}\n{r['output']}", "source": "chinese"}
        for i, r in enumerate(chinese[:100])
    ]
    texts = [
        {
            "id": r["id"],
            "source": r["source"],
            "text": r.get("text") or "\n".join(m["content"] for m in r["messages"]),
        }
        for r in rows
    ]
    pool = make_pool(texts, tmp_path)
    at = candidates(pool, None)
    suspects = noisy(pool, at, 0.3)
    found = shares(pool, suspects, at)
    for kind in junk:
        assert found.pop(kind) > 0.9, kind
    junk_rows = np.isin(pool.source_codes[at], [pool.source_names.index(k) for k in junk])
    assert suspects[~junk_rows].mean() < 0.02
    sizes = dict(zip(pool.source_names, np.bincount(pool.source_codes[at]), strict=True))
    assert max(share for name, share in found.items() if sizes[name] >= 20) < 0.2
    assert found["chinese"] < 0.05
