"""N-gram models against KenLM, recorded and where it is installed, and against plain dictionaries.

`ngram_lm/` was made with KenLM 0.3.0: `lmplz -o ORDER --discount_fallback` of `train.txt`, 60 lines
of Shakespeare (public domain), gave `order3.arpa` and other models, `build_binary` of it
`order3.bin`; `scores.json` has what `kenlm.Model.full_scores` says of some sentences by them, summed:
log₁₀ p, tokens with </s>, unknown words. `gap.arpa` is written by hand, as SRILM prunes: it has a
3-gram without its last two words, and no <unk>.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("numba")

from didact.text.ngram_lm import kenlm_binary
from didact.text.ngram_lm.arpa import read_arpa
from didact.text.ngram_lm.counting import Counts
from didact.text.ngram_lm.tokens import sentences_of

HERE = Path(__file__).parent / "ngram_lm"
RECORDED = json.loads((HERE / "scores.json").read_text())
QUERIES = pa.array(RECORDED["queries"], pa.large_string())
TRAIN = pa.array((HERE / "train.txt").read_text().split("\n"), pa.large_string())
PRINTED = 1e-5  # KenLM works in float32 and writes seven digits


def arpa(name="order3.arpa"):
    return read_arpa([(HERE / name).read_bytes()], name)


def fitted(texts, unit, order, sentence="line"):
    counts = Counts(order)
    counts.add(sentences_of(texts, unit, sentence))
    return counts.estimate()


def same(found, recorded):
    logs, lengths, unknown = map(np.array, zip(*recorded, strict=True))
    np.testing.assert_allclose(found.logs, logs, atol=PRINTED * lengths.max())
    assert (found.tokens + found.sentences).tolist() == lengths.tolist()
    assert found.unknown.tolist() == unknown.tolist()
    np.testing.assert_allclose(found.perplexity, 10 ** (-logs / lengths), rtol=1e-4)


def test_an_arpa_file_is_read_as_kenlm_reads_it():
    model = arpa()
    assert model.order == 3
    assert model.closed
    same(model.judge(QUERIES, "whitespace", "text"), RECORDED["words"]["3"])


def test_an_arpa_file_with_gaps_and_without_unk_too():
    model = arpa("gap.arpa")
    assert not model.closed
    assert not model.about["has_unk"]
    queries = pa.array(RECORDED["gap"]["queries"], pa.large_string())
    same(model.judge(queries, "whitespace", "text"), RECORDED["gap"]["scores"])


@pytest.mark.parametrize("order", [2, 3, 5])
def test_a_model_of_words_is_that_of_lmplz(order):
    model = fitted(TRAIN, "whitespace", order)
    same(model.judge(QUERIES, "whitespace", "text"), RECORDED["words"][str(order)])
    assert model.about["fallback"] == list(range(2, order + 1))  # as lmplz says


def test_a_model_of_characters_is_that_of_lmplz():
    model = fitted(TRAIN, "characters", 5)
    same(model.judge(QUERIES, "characters", "text"), RECORDED["characters"]["5"])
    assert model.about["fallback"] == [1]
    assert model.about["discounts"][4] == [0.8217, 1.5673, 1.3068]  # as lmplz prints


@pytest.mark.parametrize("binary", [False, True])
def test_kenlm_itself_says_the_same(binary):
    kenlm = pytest.importorskip("kenlm")
    model = kenlm.Model(str(HERE / ("order3.bin" if binary else "order3.arpa")))
    odd = "the <unk> and </s> of", " ", "\n\n", "a\nb \n\n c", "<s> the</s> \u00a0<s> </s>\n<s>"
    texts = pa.array([*RECORDED["queries"], *odd], pa.large_string())
    for unit in ("words", "whitespace", "characters"):
        theirs = kenlm_binary.judge(model, texts, unit, "line")
        ours = arpa().judge(texts, unit, "line")
        np.testing.assert_allclose(ours.logs, theirs.logs, atol=PRINTED * 20)
        for of_ours, of_theirs in zip(ours[1:], theirs[1:], strict=True):
            assert of_ours.tolist() == of_theirs.tolist()
    one = RECORDED["queries"][0]
    single = arpa().judge(pa.array([one], pa.large_string()), "whitespace", "text")
    assert single.perplexity[0] == pytest.approx(model.perplexity(one), rel=1e-4)


class Dictionaries:
    """Modified Kneser-Ney from its definition: a dictionary of all n-grams, and recursion."""

    def __init__(self, sentences, order):
        self.order = order
        seen = [["<s>", *s.split(" "), "</s>"] for s in sentences]
        raw = [Counter(tuple(s[i : i + n]) for s in seen for i in range(len(s) - n + 1))
               for n in range(1, order + 1)]  # fmt: skip
        del raw[0]["<s>",]
        self.counts = [
            {g: c if n == order or g[0] == "<s>" else len({h[0] for h in raw[n] if h[1:] == g})
             for g, c in grams.items()}
            for n, grams in enumerate(raw, 1)
        ]  # fmt: skip
        self.words = {g[0] for g in raw[0]} | {"<unk>"}
        self.discounts = [self.discounts_of(list(grams.values())) for grams in self.counts]

    @staticmethod
    def discounts_of(counts):
        t = [counts.count(k) for k in range(5)]
        if 0 in t[1:4]:
            return {1: 0.5, 2: 1.0, 3: 1.5}
        y = t[1] / (t[1] + 2 * t[2])
        found = {k: k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3)}
        good = all(0 <= d <= k for k, d in found.items())
        return found if good else {1: 0.5, 2: 1.0, 3: 1.5}

    def p(self, word, context):
        counts = {g[-1]: c for g, c in self.counts[len(context)].items() if g[:-1] == context}
        lower = self.p(word, context[1:]) if context else 1 / len(self.words)
        if not counts:
            return lower
        off = {w: self.discounts[len(context)][min(c, 3)] for w, c in counts.items()}
        seen = counts.get(word, 0) - off.get(word, 0)
        return (seen + sum(off.values()) * lower) / sum(counts.values())

    def log(self, sentence):
        words = [w if w in self.words else "<unk>" for w in sentence.split(" ")]
        total, context = 0.0, ["<s>"]
        for word in [*words, "</s>"]:
            recent = tuple(context[-(self.order - 1) :]) if self.order > 1 else ()
            total += math.log10(self.p(word, recent))
            context.append(word)
        return total


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_is_what_dictionaries_make_of_the_definition(order, seed):
    rng = np.random.default_rng([order, seed])
    words = np.array(list("abcdefgh")) if seed else np.array([f"w{i}" for i in range(60)])
    p = 1 / np.arange(1, len(words) + 1)
    sentences = [" ".join(rng.choice(words, rng.integers(1, 12), p=p / p.sum())) for _ in range(60)]
    train, asked = sentences[:45], [*sentences[45:], "never seen a b w1", "a a a a a a"]
    model = fitted(pa.array(train, pa.large_string()), "whitespace", order)
    theirs = Dictionaries(train, order)
    found = model.judge(pa.array(asked, pa.large_string()), "whitespace", "line")
    # a cell holds float32
    np.testing.assert_allclose(found.logs, [theirs.log(s) for s in asked], rtol=1e-6)
    sizes = [len(grams) for grams in theirs.counts]
    assert model.about["ngrams"] == [sizes[0] + 1, *sizes[1:]]  # <s> is a word too
    of_words = sum(theirs.p(word, ("<s>",)[: order - 1]) for word in theirs.words)
    assert of_words == pytest.approx(1)
