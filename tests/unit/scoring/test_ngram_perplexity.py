"""ngram_perplexity: where its model comes from, and what it refuses or tells."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import zstandard

pytest.importorskip("numba")

import didact
from didact.core.errors import ConfigError, DataError, MissingDependencyError
from didact.core.identity import identity
from didact.core.registry import find
from didact.scoring.around.about_scores import about_scores
from didact.testing import chat, make_pool

REFERENCE = Path(__file__).parents[2] / "reference" / "ngram_lm"
ARPA = REFERENCE / "order3.arpa"
LINES = (REFERENCE / "train.txt").read_text().splitlines()


def text_row(id_, text):
    return {"id": id_, "text": text}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rows = [text_row(f"r{i}", "\n".join(LINES[i : i + 3])) for i in range(0, 60, 5)]
    rows += [text_row("far", "Nothing whatever resembles anything printed elsewhere"),
             text_row("zh", "完全不同的文字"), text_row("none", " -- \n")]  # fmt: skip
    return make_pool(rows, tmp_path_factory.mktemp("pool"))


def score(pool, **settings):
    return didact.score(pool, "ngram_perplexity", **settings)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    rows = [text_row(f"t{i}", line) for i, line in enumerate(LINES)]
    return make_pool(rows, tmp_path_factory.mktemp("target"), name="target")


def test_low_is_better_unless_said_otherwise(pool, target):
    scores = score(pool, target=target)
    assert not scores.higher_is_better
    assert int(np.nanargmax(scores.values[:13])) == 12
    assert scores.missing == {14: "no words: a perplexity needs at least one token"}
    assert scores.parts["unknown"][13] == 1.0
    assert score(pool, target=target, prefer="highest").higher_is_better


def test_a_text_makes_the_model_that_the_same_target_makes(pool, target, tmp_path):
    (tmp_path / "clean.txt").write_text("\n".join(LINES))
    by_text = score(pool, text=str(tmp_path / "clean.txt"), order=3)
    by_target = score(pool, target=target, order=3)
    np.testing.assert_array_equal(by_text.values, by_target.values)
    assert by_text.facts["note"].startswith("the text of the model (")


def test_rows_of_a_text_that_are_no_samples_are_counted(pool, tmp_path):
    (tmp_path / "clean.jsonl").write_text('{"text": "the sun"}\n{"text": ""}\n{"text": 3}\n')
    note = score(pool, text=str(tmp_path / "clean.jsonl")).facts["note"]
    assert note.endswith("clean.jsonl were no sample: left out")
    assert "; 2 rows of" in note


@pytest.mark.parametrize("packed", ["arpa", "gz", "zst"])
def test_a_file_is_read_whatever_it_is_called(pool, target, tmp_path, packed):
    pack = {"arpa": bytes, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
    (tmp_path / "model").write_bytes(pack[packed](ARPA.read_bytes()))
    read = score(pool, model=str(tmp_path / "model"), unit="whitespace")
    made = score(pool, target=target, unit="whitespace", order=3)
    np.testing.assert_allclose(read.values, made.values, rtol=1e-4)
    assert "note" not in read.facts


def test_words_that_a_file_has_and_the_unit_never_gives_are_told(pool):
    note = score(pool, model=str(ARPA)).facts["note"]
    assert note.startswith("37% of the words of")
    assert "unit=whitespace" in note


def test_an_order_that_the_file_has_not(pool):
    with pytest.raises(ConfigError, match=r"order=4: .* of order 3; set 3 or leave"):
        score(pool, model=str(ARPA), order=4)
    score(pool, model=str(ARPA), order=3)


def test_two_sources_of_one_model(pool, tmp_path):
    (tmp_path / "clean.txt").write_text("a text")
    with pytest.raises(ConfigError, match="not both"):
        score(pool, model=str(ARPA), text=str(tmp_path / "clean.txt"))
    with pytest.raises(ConfigError, match=r"order3.arpa and a target set, .*leave out one"):
        score(pool, model=str(ARPA), target=pool)
    with pytest.raises(ConfigError, match="needs a target set"):
        score(pool)
    assert find("scorers", "ngram_perplexity")().needs_target
    assert not find("scorers", "ngram_perplexity")(model="a file").needs_target


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\0\0", "begins with the bytes .*expected an ARPA file"),
        (b"", "is empty; expected an ARPA file"),
        (gzip.compress(b"\0\1\2", mtime=0), "begins with the bytes"),
        (gzip.compress(ARPA.read_bytes(), mtime=0)[:4000], "corrupt or truncated gzip data"),
        (ARPA.read_bytes()[:9000], "cut short in the middle of its 2-grams"),
        (b"just some text\n", r"no \\data\\ came"),
    ],
)
def test_a_file_that_is_no_model(pool, tmp_path, content, message):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(DataError, match=message):
        score(pool, model=str(tmp_path / "model"))


def test_a_file_that_is_not_there(pool, tmp_path):
    with pytest.raises(ConfigError, match=r"ngram_perplexity.model=.*no such file"):
        score(pool, model=str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"ngram_perplexity.text=.*a folder; expected a file"):
        score(pool, text=str(tmp_path))


def test_a_file_that_was_changed_is_read_again(pool, tmp_path):
    model = tmp_path / "model"
    model.write_bytes(ARPA.read_bytes())
    before = score(pool, model=str(model), unit="whitespace")
    model.write_bytes(ARPA.read_bytes().replace(b"-0.9056961\t</s>", b"-0.5\t</s>"))
    after = score(pool, model=str(model), unit="whitespace")
    assert (after.values[:13] < before.values[:13]).any()


def test_a_binary_needs_its_extra(pool, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "kenlm" else real(name)
    )
    with pytest.raises(MissingDependencyError, match=r"KenLM binary, needs kenlm: .*didact\[kenlm"):
        score(pool, model=str(REFERENCE / "order3.bin"))


def test_what_kenlm_judges_depends_on_kenlm_and_costs_more(pool):
    method = find("scorers", "ngram_perplexity")
    binary, arpa = ({"model": str(path)} for path in (REFERENCE / "order3.bin", ARPA))
    assert set(identity(method, binary, str)["libraries"]) == {"kenlm"}
    assert identity(method, arpa, str)["libraries"] == {}
    assert identity(method, {"model": None}, str)["libraries"] == {}
    by_kenlm, by_arpa = (method(**given).estimate(pool.stats, None) for given in (binary, arpa))
    read = 20e-9 * ARPA.stat().st_size
    assert by_kenlm.cpu_seconds > 10 * (by_arpa.cpu_seconds - read)


def test_a_model_is_made_again_when_words_may_be_cut_otherwise(pool, target, tmp_path, monkeypatch):
    def models():
        ctx = didact.context(workers=1, cache_dir=tmp_path)
        score(pool, target=target, order=2, ctx=ctx)
        return len({path.parent for path in tmp_path.rglob("cells.npy")})

    assert models() == models() == 1
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0" if name == "pyarrow" else real(name)
    )
    assert models() == 2


def test_a_binary_is_asked_through_kenlm(pool, tmp_path):
    pytest.importorskip("kenlm")
    binary = REFERENCE / "order3.bin"
    read = score(pool, model=str(binary), unit="whitespace")
    arpa = score(pool, model=str(ARPA), unit="whitespace")
    np.testing.assert_allclose(read.values, arpa.values, rtol=1e-4)
    np.testing.assert_array_equal(read.parts["unknown"], arpa.parts["unknown"])
    (tmp_path / "model").write_bytes(binary.read_bytes()[:9000])
    with pytest.raises(DataError, match="kenlm cannot read it"):
        score(pool, model=str(tmp_path / "model"))


def test_a_target_of_one_row(pool, tmp_path):
    one = make_pool([text_row("t", "the cat sat on the mat")], tmp_path)
    scores = score(pool, target=one)
    assert np.isfinite(scores.values[scores.present]).all()
    assert scores.facts["fallback"] == [1, 2, 3, 4, 5]
    assert scores.facts["note"] == (
        "the text of the model (6 tokens) is too little to tell what to take off the counts of its "
        "1, 2, 3, 4 and 5-grams: ½, 1 and 1½, as `lmplz --discount_fallback` does"
    )


def test_a_target_without_a_word(pool, tmp_path):
    none = make_pool([text_row("t", "… !")], tmp_path)
    with pytest.raises(DataError, match="the text of the 1 samples that the model"):
        score(pool, target=none)
    score(pool, target=none, unit="characters")


def test_a_target_in_a_script_that_the_pool_lacks(pool, tmp_path):
    thai = make_pool([text_row("t", "ภาษาไทยเป็นภาษาที่มีระดับเสียง")], tmp_path)
    scores = score(pool, target=thai)
    found = {finding.kind: finding for finding in about_scores(scores)}
    assert found["unknown"].count == 14
    assert "no token that the model of ngram_perplexity knows" in found["unknown"].text
    assert not {f.kind for f in about_scores(score(pool, model=str(ARPA)))} >= {"all_equal"}


def test_a_target_that_shares_a_word_with_the_pool_and_hardly_more(pool, tmp_path):
    thai = make_pool([text_row("t", "ภาษาไทยเป็นภาษาที่มีระดับเสียง the")], tmp_path)
    scores = score(pool, target=thai)
    shares = scores.parts["unknown"][scores.present]
    assert 0.75 < np.median(shares) < 1
    found = {finding.kind: finding for finding in about_scores(scores)}
    assert found["unknown"].count == (shares >= 0.75).sum() > (shares == 1).sum()
    assert f"does not know {np.median(shares):.0%} of the tokens" in found["unknown"].text


def test_a_file_without_unk(pool, tmp_path):
    text = ARPA.read_text()
    of_words = int(re.search(r"ngram 1=(\d+)", text)[1])
    without = re.sub(r"^\S+\t<unk>.*\n", "", text, flags=re.MULTILINE)
    path = tmp_path / "without.arpa"
    path.write_text(without.replace(f"ngram 1={of_words}", f"ngram 1={of_words - 1}"))
    assert "has no <unk>" in score(pool, model=str(path)).facts["note"]
    assert "has no <unk>" not in score(pool, model=str(ARPA)).facts.get("note", "")


def test_parts_of_a_sample(tmp_path):
    rows = [chat("a", "What sits?", "The cat sits."), chat("b", "The cat sits.", "What sits?")]
    pool = make_pool(rows, tmp_path)
    answers = score(pool, target=pool, field="completion", target_field="prompt").values
    same = score(pool, target=pool, field="prompt").values
    assert answers.tolist() == same[::-1].tolist()
    with pytest.raises(ConfigError, match="target_field=prompt: there is no target set"):
        score(pool, model=str(ARPA), target_field="prompt")
    with pytest.raises(ConfigError, match="target_field=prompt"):
        text = make_pool([text_row("t", "a")], tmp_path, name="text")
        score(pool, target=text, field="prompt")
