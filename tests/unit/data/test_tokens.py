"""Token counts: the estimate, a real tokenizer, and files that are none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import didact
from didact.core.errors import ConfigError, DataError
from didact.data.store.token_counts import token_counter

TEXTS = ["", "a", "abcd", "abcde", "猫", "😀", "The quick brown fox.\n" * 5, "猫が好き。" * 9]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """A byte-level BPE tokenizer, as most models have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<s>"],
    )  # fmt: skip
    tokenizer.train_from_iterator(["The quick brown fox jumps. " * 3, "猫が好き。"], trainer)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_the_estimate_is_bytes_by_four_rounded_up():
    counter = token_counter(None)
    assert (counter.name, counter.estimate) == ("bytes/4", True)
    expected = [-(-len(t.encode()) // 4) for t in TEXTS]
    assert counter.count(pa.array(TEXTS, pa.large_string())).tolist() == expected
    assert [counter.count_one(t) for t in TEXTS] == expected


def test_a_tokenizer_without_its_truncation_and_padding(byte_level):
    counter = token_counter(str(byte_level))
    assert not counter.estimate
    assert counter.name.startswith("tokenizer.json ")
    plain = Tokenizer.from_file(str(byte_level))
    plain.no_truncation()
    plain.no_padding()
    expected = [len(plain.encode(t, add_special_tokens=False)) for t in TEXTS]
    assert counter.count(pa.array(TEXTS, pa.large_string())).tolist() == expected
    assert [counter.count_one(t) for t in TEXTS] == expected
    assert expected[6] > 4


def test_a_folder_of_a_model(byte_level):
    assert token_counter(str(byte_level.parent)) == token_counter(str(byte_level)) or (
        token_counter(str(byte_level.parent)).name == token_counter(str(byte_level)).name
    )


@pytest.mark.parametrize("text", TEXTS[1:])
@pytest.mark.parametrize("which", ["estimate", "tokenizer"])
def test_ends_ascend_to_the_end(byte_level, which, text):
    counter = token_counter(None if which == "estimate" else str(byte_level))
    ends = counter.ends(text)
    assert np.all(np.diff(ends) >= 0)
    assert ends[-1] == len(text)


def test_the_pool_names_its_counter(byte_level, tmp_path):
    (tmp_path / "x.txt").write_text("The quick brown fox\nThe fox")
    pool = didact.read(tmp_path / "x.txt", tokenizer=str(byte_level))
    assert not pool.tokens_are_estimated
    assert pool.token_counter.startswith("tokenizer.json ")
    counter = token_counter(str(byte_level))
    assert pool.n_tokens.tolist() == [
        counter.count_one(t) for t in ("The quick brown fox", "The fox")
    ]
    estimated = didact.read(tmp_path / "x.txt")
    assert estimated.tokens_are_estimated
    assert estimated.fingerprint != pool.fingerprint


def test_no_tokenizer(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        token_counter(str(tmp_path / "none.json"))
    for name, data in {"a.json": b"{}", "b.json": b"\xff\xfe", "c.json": b"", "d": b"[1]"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match=rf"data.tokenizer: .*{name} is not a tokenizer.json"):
            token_counter(str(tmp_path / name))
