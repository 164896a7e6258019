"""What is noise in a pool: scores by hand, every kind of noise, languages that hardly anyone has."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import zstandard

from didact.core.protocols import Context
from didact.execution.executors import serial, threads
from didact.selection.around.budget import candidates
from didact.testing import make_pool
from didact.text.noise import noise
from didact.text.noise.misdecoded import misdecoded
from didact.text.noise.noise import noisy
from didact.text.words import place_words

pytest.importorskip("numba")

ALONE = Context(executor=serial(), seed=0, cache_dir=Path())
INSTRUMENTS = Path(__file__).resolve().parents[3] / "benchmarks" / "instruments.py"

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


# -- the score by hand -----------------------------------------------------------------------------

ONE_EACH = "\u0e00-\u0fff\u3040-\u9fff\U0001f300-\U0001faff"  # Thai, ideographs, pictographs
WORD = re.compile(f"[{ONE_EACH}]|[^\\W{ONE_EACH}]+")


def words_of(text):
    """Words, and of each whether the next one is its neighbor: nothing or a space between."""
    found = list(WORD.finditer(text.lower()))
    between = [text[a.end() : b.start()] for a, b in pairwise(found)]
    return [m.group() for m in found], [gap in ("", " ") for gap in between]


def spelling(word):
    """Steps from letter to letter inside an alphabet of 128 code points, and all; a number's none."""
    if all(c in "0123456789_" for c in word):
        return [], 0
    steps, letters, before = [], 0, None
    for c in word:
        if c == "_":
            before = None
            continue
        here = divmod(ord(c), 128)
        if here[0] * 128 < 0x3000 and (before is None or before[0] == here[0]):
            steps.append((here[0], before[1] if before else 0, here[1]))
        before = here
        letters += 1
    return steps, letters


def worth_of(steps):
    """What a step is worth: log ratio of its probability to 1/36, 1 in an unknown alphabet."""
    counts = Counter(steps)
    after, arrived, alphabet = Counter(), Counter(), Counter()
    for (block, before, letter), n in counts.items():
        after[block, before] += n
        arrived[block, letter] += n
        alphabet[block] += n

    def worth(step):
        block, before, letter = step
        share = (arrived[block, letter] + 20 / 36) / (alphabet[block] + 20)
        chance = (counts[step] + 20 * share) / (after[block, before] + 20)
        sure = alphabet[block] / (alphabet[block] + 1000)
        return sure * math.log(36 * chance) + (1 - sure)

    return worth


def scores_by_hand(texts, counted):
    """Scores as `noisy` documents them: counters of words, pairs and letters, no hashes."""
    split = [words_of(t) for t in texts]
    met = Counter(w for i in counted for w in split[i][0])
    neighbors = [
        [pair for pair, near in zip(pairwise(w), gaps, strict=True) if near] for w, gaps in split
    ]
    pairs = Counter(p for i in counted for p in neighbors[i])
    total = sum(met.values())

    def attraction(a, b, own):
        chance = max(met[a] - own, 0) * max(met[b] - own, 0) / total
        return math.log((max(pairs[a, b] - own, 0) + 0.5) / (chance + 0.5))

    found = {(i, k): attraction(*p, 1) for i in counted for k, p in enumerate(neighbors[i])}
    typical = sum(found.values()) / len(found)
    company = defaultdict(list)
    for (i, k), worth in found.items():
        for side, word in enumerate(neighbors[i][k]):
            company[word].append(((i, k, side), worth))
    learnt = [w for i in counted for w in split[i][0] if met[w] > 1]
    worth = worth_of([step for w in learnt for step in spelling(w)[0]])

    scores = []
    for i, (words, gaps) in enumerate(split):
        own = int(i in counted)
        ties = []
        for k, word in enumerate(words):
            pair = sum(gaps[:k])  # the one it begins, if it has a neighbor
            mine = {(i, pair, 0)} if k < len(gaps) and gaps[k] else set()
            mine |= {(i, pair - 1, 1)} if k and gaps[k - 1] else set()
            others = [worth for place, worth in company[word] if place not in mine]
            tie = sum(others) / (len(others) + 2) if met[word] > own else 0
            ties.append(min(max(tie, 0), typical))
        a = sum(attraction(*pair, own) for pair in neighbors[i])
        e = sum((ties[k] + ties[k + 1]) / 2 for k, near in enumerate(gaps) if near)
        t = typical * sum(1 if near else 0.25 for near in gaps)
        c = min(1 - (e - a) / (e / 4 + 3 * t / 4 + 2), 1)
        size = loose = letters = spelled = 0.0
        for word, tie in zip(words, ties, strict=True):
            steps, n = spelling(word)
            if n:
                missing = 1 - tie / typical
                size += len(word.encode())
                loose += missing * len(word.encode())
                letters += missing * n
                spelled += missing * (sum(map(worth, steps)) + n - len(steps))
        mean = spelled / letters if letters else 1
        s = min(max((mean + 0.35) / 0.55, 0), 1)
        n = len(texts[i].encode())
        scores.append((c * (1 - loose / max(size, 1) * (1 - s)) * n + 8) / (n + 8))
    return scores


CYRILLIC = ["старый моряк", "моя сестра", "пишет письмо", "идёт домой", "в саду", "под дождём"]
THAI = ["วันนี้อากาศดีมาก", "เราไปเดินเล่นในสวน", "อากาศดีในสวน"]
CHINESE = ["今天天气很好", "我们去公园散步", "天气很好去公园"]
ODD = [
    "one", "?!", "x" * 300, "ha ha ha ha ha ha", "the zyx sister wvu wvu",
    "my sister, my sister; my  sister\nmy sister (my) sister", "the old sailor's sister's cook",
    "get_the_letter set_the_letter __init__ _ 12_3", "1947 12 1947 2024-05-01 42nd x1 x22 x333",
    "naïve café, naïve façade", "theстарый sisterсестра", "Ωμέγα και άλφα", "😀😀 the cook 👍",
    "今天theold天气 today很好", "ผม 12 the ๑๒", "\U00010330\U00010331 \U00010330",
]  # fmt: skip


@pytest.fixture
def scored(monkeypatch):
    """What `noisy` scores, kept; tables so large that no two words of a few share a bucket."""
    kept = []
    score = noise._score

    def keep(*given):
        kept.append(score(*given))
        return kept[-1]

    monkeypatch.setattr(noise, "_score", keep)
    monkeypatch.setattr(noise, "_BUCKETS", (2**26, 2**26))
    return kept


def stirred(text, rng):
    """A text with some of its words, or characters where there are no spaces, in other places."""
    space = " " if " " in text else ""
    words = text.split(" ") if space else list(text)
    for _ in range(rng.randint(1, len(words))):
        at, word = rng.randrange(len(words)), words.pop(rng.randrange(len(words)))
        words.insert(at, rng.choice([word, word, word[::-1]]))
    return space.join(words)


def invented(texts, rng):
    """Words that nobody else has, more or less like those of some texts."""

    def word():
        one, other = (rng.choice(rng.choice(texts).split()) for _ in "ab")
        out = one[: rng.randint(1, 5)] + rng.choice(["", "", "_", "7"]) + other[rng.randint(0, 3) :]
        return "".join(rng.sample(out, len(out))) if rng.random() < 0.4 else out

    return " ".join(word() for _ in range(rng.randint(2, 12)))


@pytest.mark.parametrize("part", [1, 3])
def test_a_score_is_what_the_formula_says(part, scored, tmp_path, monkeypatch):
    rng = random.Random(4)
    texts = [sentences(rng, rng.randint(1, 4)) for _ in range(120)]
    junk = planted(texts, 3, rng)
    for script, space in ((CYRILLIC, " "), (THAI, ""), (CHINESE, "，")):
        texts += [space.join(rng.choices(script, k=rng.randint(1, 6))) for _ in range(25)]
    texts += [invented(texts[:145], rng) for _ in range(60)]
    texts += [stirred(t, rng) for t in texts]
    texts += [*ODD, *ODD, *(t for found in junk.values() for t in found)]
    rng.shuffle(texts)
    rows = [{"id": str(i), "text": t, "source": ""} for i, t in enumerate(texts)]
    pool = make_pool(rows, tmp_path, dedup="none")
    assert len(pool) == len(texts)
    once = sorted({t: i for i, t in reversed([*enumerate(texts)])}.values())
    n_bytes = sum(len(texts[i].encode()) for i in once)
    monkeypatch.setattr(noise, "_COUNTED_BYTES", -(-n_bytes // part))
    found = noisy(pool, np.arange(len(texts)), 0.3, ALONE)

    expected = scores_by_hand(texts, {*once[part - 1 :: part]})
    got = np.concatenate(scored)
    np.testing.assert_allclose(got[once], np.array(expected)[once], rtol=1e-5, atol=1e-5)
    assert len({round(x, 3) for x in expected}) > 150
    assert sum(x < 0.3 for x in expected) > 30
    flags = {texts[i]: expected[i] < 0.3 for i in once}
    assert found.tolist() == [flags[t] for t in texts]


def test_neighbors_have_nothing_or_a_space_between_them():
    texts = ["old man", "a, b c  d\te\nf(g) h", "天气很a 好", "", "new", "don't"]
    words = place_words(arrow(texts))
    text = noise._as_text(words, np.ones(len(texts), np.bool_))
    expected = [near for t in texts for near in [*words_of(t)[1], False][: len(words_of(t)[0])]]
    assert text.near.tolist() == expected
    assert text.near.tolist() == [
        True, False,
        False, True, False, False, False, False, False, False,
        True, True, True, True, False,
        False,
        False, False,
    ]  # fmt: skip


# -- noisy -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    rng = random.Random(1)
    texts = [sentences(rng, rng.randint(1, 8)) for _ in range(400)]
    return pool_with(texts, planted(texts, 8, rng), tmp_path_factory.mktemp("noise"))


def test_every_kind_of_noise_is_found_and_no_sentence(mixed):
    rows = candidates(mixed, None)
    found = shares(mixed, noisy(mixed, rows, 0.3, ALONE), rows)
    assert found.pop("text") == 0
    assert len(found) == 5
    assert min(found.values()) == 1


@pytest.mark.parametrize("size", [24, 40, 60])
def test_short_noise_is_found_and_short_sentences_are_not(size, tmp_path):
    rng = random.Random(6)
    texts = [sentences(rng, rng.randint(1, 6)) for _ in range(400)]
    short = [" ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS)) for _ in range(60)]
    junk = {kind: [t[:size] for t in found] for kind, found in planted(texts, 8, rng).items()}
    del junk["salad"]  # words in random order need more to show it
    pool = pool_with([*texts, *short], junk, tmp_path)
    rows = candidates(pool, None)
    found = shares(pool, noisy(pool, rows, 0.3, ALONE), rows)
    assert found.pop("text") == 0
    assert found.pop("mash") > 0.6  # short words are somebody's
    assert min(found.values()) == 1


def test_a_name_nobody_else_mentions_is_not_noise(tmp_path):
    rng = random.Random(7)
    texts = [sentences(rng, rng.randint(1, 6)) for _ in range(400)]
    names = ["Ignacy Paderewski", "Vasilyevich", "1947-03-21", "yes", "Llanfair", "Xq"]
    asked = [f"{rng.choice(SUBJECTS)} had lunch with {name}" for name in names]
    pool = pool_with([*texts, *names, *asked], {}, tmp_path)
    assert not noisy(pool, candidates(pool, None), 0.3, ALONE).any()


def test_strictness_orders_what_is_found(tmp_path):
    rng = random.Random(1)
    texts = [sentences(rng, rng.randint(1, 8)) for _ in range(200)]
    odd = {"invented": [invented(texts, rng) for _ in range(60)], **planted(texts, 8, rng)}
    pool = pool_with([*texts, *(stirred(t, rng) for t in texts)], odd, tmp_path)
    rows = candidates(pool, None)
    found = [noisy(pool, rows, s, ALONE) for s in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert all((a <= b).all() for a, b in pairwise(found))
    sizes = [int(f.sum()) for f in found]
    assert len({*sizes}) == len(sizes)


def test_workers_change_no_bit(mixed, scored, tmp_path):
    texts = mixed.read(range(len(mixed)), ["text"]).column("text").to_pylist()
    pool = make_pool([{"text": text} for text in texts], tmp_path, batch_rows=50)
    rows = candidates(pool, None)[::2]
    alone = noisy(pool, rows, 0.3, ALONE)
    scores = np.concatenate(scored)
    scored.clear()
    shared = noisy(pool, rows, 0.3, replace(ALONE, executor=threads(3)))
    assert len(pool.parts(rows)) > 3
    assert shared.tolist() == alone.tolist()
    assert np.concatenate(scored).tobytes() == scores.tobytes()


def test_only_candidates_count(mixed, scored):
    rows = candidates(mixed, None)[::2]
    alone = noisy(mixed, rows, 0.3, ALONE)
    scores = np.concatenate(scored)
    scored.clear()
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
    assert noisy(rebuilt, np.arange(len(rebuilt)), 0.3, ALONE).tolist() == alone.tolist()
    assert np.concatenate(scored).tolist() == scores.tolist()
    assert len({*scores.tolist()}) > 10


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
    found = shares(pool, noisy(pool, everything, 0.3, ALONE), everything)
    assert found.pop("text") == 0
    assert set(found.values()) == {1.0}


def test_copies_are_all_noise_or_none(tmp_path):
    rng = random.Random(2)
    texts = [stirred(sentences(rng, rng.randint(1, 8)), rng) for _ in range(200)]
    texts += [invented(texts, rng) for _ in range(40)]
    rows = [{"id": str(i), "text": t, "source": ""} for i, t in enumerate(texts * 2)]
    pool = make_pool(rows, tmp_path, dedup="none")
    found = noisy(pool, np.arange(len(rows)), 0.8, ALONE)
    assert found[: len(texts)].tolist() == found[len(texts) :].tolist()
    assert 20 < found.sum() < len(texts)


def test_where_pairs_do_not_attract_only_misdecoded_texts_are_noise(tmp_path):
    letters = "abcdefghijkl"
    grid = [f"{a * 9} {b * 8}" for a in letters for b in letters]  # no pair twice
    rng = random.Random(3)
    junk = [" ".join(rng.randbytes(5).hex() for _ in range(30)) for _ in range(40)]
    for name, texts, strictness in (("grid", grid, 1.0), ("junk", junk, 0.3)):
        pool = pool_with(texts, {"broken": ["crÃ¨me brÃ»lÃ©e"]}, tmp_path / name)
        rows = candidates(pool, None)
        assert shares(pool, noisy(pool, rows, strictness, ALONE), rows) == {"text": 0, "broken": 1}


def test_no_rows_and_one_row(tmp_path):
    pool = pool_with(["just one"], {}, tmp_path)
    assert noisy(pool, np.empty(0, np.int64), 0.3, ALONE).tolist() == []
    assert noisy(pool, np.array([0]), 0.3, ALONE).tolist() == [False]


def test_in_a_large_pool_pairs_are_counted_in_a_part(mixed, monkeypatch):
    rows = candidates(mixed, None)
    monkeypatch.setattr(noise, "_COUNTED_BYTES", int(mixed.n_bytes.sum()) // 3)
    found = shares(mixed, noisy(mixed, rows, 0.3, ALONE), rows)
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


BROKEN = {
    "French": RIGHT[2],
    "German": "Größere Straßen führen über die Brücke, und später hören wir das Läuten.",
    "Spanish": "El niño comió jamón y después salió a jugar al jardín con su mamá.",
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Turkish": "Bugün hava çok güzel, çocuklarla parkta yürüyüş yaptık.",
    "Vietnamese": "Hôm nay trời rất đẹp, chúng tôi đi dạo trong công viên.",
    "Russian": RIGHT[6],
    "Chinese": RIGHT[7],
    "Japanese": RIGHT[8],
    "Korean": RIGHT[9],
    "Arabic": RIGHT[10],
    "typography": "“It’s fine,” she said — “we’re here.” That’s what they’d do.",
}


@pytest.mark.parametrize("table", ["latin-1", "cp1252"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("language", BROKEN)
def test_misdecoded_text_is_found(language, times, table):
    right = BROKEN[language]
    wrong = spoiled(right, table, times)
    assert wrong != right
    assert misdecoded(arrow(["fine", right, wrong, None])).tolist() == [False, False, True, False]


def test_one_broken_accent_does_not_spoil_a_text():
    plain = "So it was, and nobody had a word to say about it. "
    texts = ["We met in a cafÃ© near it.", "cafÃ©", f"{plain * 30} cafÃ© {plain * 30}"]
    assert len(texts[-1]) > 3000
    assert misdecoded(arrow(texts)).tolist() == [False, False, False]
    assert misdecoded(arrow(["dÃ©jÃ\xa0 vu", "crÃ¨me brÃ»lÃ©e"])).tolist() == [True, True]


def test_a_text_is_misdecoded_from_one_broken_character_in_a_hundred_on():
    few, many = (f"Ã©{'Ã©' * n}".ljust(400, "x") for n in (1, 2))  # the first does not count
    assert misdecoded(arrow([few, many])).tolist() == [False, True]
    right = "é"  # a quarter of what is beyond ASCII may be right
    most, fewer = ("Ã©" * 6 + right * n for n in (4, 5))
    assert misdecoded(arrow([most, fewer])).tolist() == [True, False]


# -- real data -------------------------------------------------------------------------------------


def real_rows(folder, name, n):
    with zstandard.open(folder / f"{name}.jsonl.zst", "rt", encoding="utf-8") as file:
        return [
            {k: v for k, v in orjson.loads(line).items() if k != "meta"}
            for line, _ in zip(file, range(n), strict=False)
        ]


def content(row):
    return row["text"] if "text" in row else "\n".join(m["content"] for m in row["messages"])


BASE = 2000


@pytest.fixture(scope="module")
def bases(real_data):
    """English chats, others of these for noise to take its letters from, and pages of books."""
    rows = [content(r) for r in real_rows(real_data, "instruct_pool", BASE + 1500)]
    pages = [r["text"][:2000] for r in real_rows(real_data, "text_pool", 3000)
             if r["source"] == "books"]  # fmt: skip
    return {"chats": rows[:BASE], "foreign": rows[BASE:], "books": pages[:600]}


@pytest.fixture(scope="module")
def guests(real_data):
    """Paragraphs of other languages than English, and programs."""
    found = defaultdict(list)
    for row in real_rows(real_data, "multilingual_paragraphs", 1440):
        found[row["source"]].append(row["text"])
    del found["en"]
    for name in ("target_mbpp_train", "target_humaneval"):
        found["code"] += [content(row) for row in real_rows(real_data, name, 400)]
    return found


@pytest.mark.parametrize("base", ["chats", "books"])
@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize("language", ["ar", "ru", "tr", "th", "zh", "code"])
def test_few_of_a_language_are_not_noise(language, n, base, bases, guests, tmp_path):
    few = random.Random(n).sample(guests[language], n)
    pool = pool_with(bases[base], {language: few}, tmp_path)
    rows = candidates(pool, None)
    found = shares(pool, noisy(pool, rows, 0.3, ALONE), rows)
    assert found[language] <= {10: 0, 30: 1 / 30, 100: 0.02}[n]


def test_in_code_a_language_is_not_noise(guests, tmp_path):
    kinds = {name: texts[:20] for name, texts in guests.items() if name != "code"}
    pool = pool_with(guests["code"], kinds, tmp_path)
    rows = candidates(pool, None)
    assert max(shares(pool, noisy(pool, rows, 0.3, ALONE), rows).values()) == 0


# Shares found, of the very same rows, by a filter that judged by the pool's median.
FOUND_BEFORE = {
    "chats": {"word salad": 0.91, "keyboard mash": 0.99, "base64": 0.98, "base64 spaced": 1,
              "mojibake": 1},
    "books": {"word salad": 1, "keyboard mash": 0.96, "base64": 0.91, "base64 spaced": 0.99,
              "mojibake": 1},
}  # fmt: skip


@pytest.mark.parametrize("base", FOUND_BEFORE)
def test_planted_noise_of_every_kind_is_found(base, bases, tmp_path):
    spec = importlib.util.spec_from_file_location("instruments", INSTRUMENTS)
    instruments = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(instruments)
    texts = bases[base]
    kinds = instruments.kinds(" ".join(texts).split(), bases["foreign"])
    found = defaultdict(list)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        lengths = [
            [len(texts[i].encode()) for i in rng.integers(len(texts), size=25)] for _ in kinds
        ]
        junk = {
            kind: [instruments.cut(make(n, rng), n) for n in sizes]
            for (kind, make), sizes in zip(kinds.items(), lengths, strict=True)
        }
        pool = pool_with(texts, junk, tmp_path / str(seed))
        rows = candidates(pool, None)
        for kind, share in shares(pool, noisy(pool, rows, 0.3, ALONE), rows).items():
            found[kind].append(share)
    means = {kind: float(np.mean(of_kind)) for kind, of_kind in found.items()}
    assert means.pop("text") < 0.002
    assert means.keys() == FOUND_BEFORE[base].keys()
    for kind, before in FOUND_BEFORE[base].items():
        assert means[kind] >= before - 0.02, kind


def test_on_a_real_pool_noise_is_found_and_hardly_anything_else(real_data, tmp_path):
    rows = real_rows(real_data, "instruct_small", 4400)
    chinese = json.loads(
        gzip.decompress((real_data / "formats/alpaca_zh_demo.json.gz").read_bytes())
    )
    chats = [r["messages"][1]["content"] for r in rows]
    junk = planted(chats, 30, random.Random(5))
    broken = [*BROKEN.values()] * 3
    junk["mojibake"] = [spoiled(t, "latin-1", 1 + i % 2) for i, t in enumerate(broken[:30])]
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
    suspects = noisy(pool, at, 0.3, ALONE)
    found = shares(pool, suspects, at)
    for kind in junk:
        assert found.pop(kind) > 0.9, kind
    junk_rows = np.isin(pool.source_codes[at], [pool.source_names.index(k) for k in junk])
    assert suspects[~junk_rows].mean() < 0.02
    sizes = dict(zip(pool.source_names, np.bincount(pool.source_codes[at]), strict=True))
    assert max(share for name, share in found.items() if sizes[name] >= 20) < 0.2
    assert found["chinese"] < 0.05
