# ruff: noqa: E402 - what needs torch is imported where it is there
import json
import math
import subprocess
import sys

import orjson
import pytest

torch = pytest.importorskip("torch")

import didact
from didact.core.errors import ConfigError
from didact.models import proxy
from didact.models.architecture import read_spec
from didact.models.batches import collate
from didact.models.encode import Encoding, encode
from didact.models.folder import check
from didact.models.language_model import open_model
from didact.models.losses import causal_losses
from didact.models.proxy import new_proxy, parameter_count, shape_for, suitable_vocab


@pytest.mark.parametrize(
    ("text", "count"),
    [("3M", 3_000_000), ("500k", 500_000), ("1.5M", 1_500_000), ("3e6", 3_000_000),
     ("1_000_000", 1_000_000), (2_000_000, 2_000_000), (3e6, 3_000_000), ("0.1B", 100_000_000)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text, count):
    assert parameter_count(text) == count


@pytest.mark.parametrize("text", ["", "big", "-3M", "3X", "0", "1e99", "nan", "M"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="expected a number of parameters"):
        parameter_count(text)


@pytest.mark.parametrize("params", [int(10 ** (k / 4)) for k in range(21, 34)])
def test_the_size_is_met_and_the_embedding_does_not_eat_the_model(params):
    vocab = suitable_vocab(params)
    shape = shape_for(params, vocab)
    assert shape.n_params == pytest.approx(params, rel=0.15)
    assert shape.n_embedding < shape.n_params / 3
    assert shape.width in {shape.heads * 32, shape.heads * 64}


def test_a_size_below_its_embedding_is_refused():
    with pytest.raises(ConfigError, match="lower vocab"):
        shape_for(100_000, 32_000)


@pytest.fixture(scope="module")
def chats_pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"what is {i} plus {i * 7 % 13}?"},
                      {"role": "assistant", "content": f"the sum of them is {i + i * 7 % 13}."}]}
        for i in range(400)
    ]  # fmt: skip
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return path


@pytest.fixture
def pool(chats_pool):
    return didact.read(chats_pool)


@pytest.fixture(scope="module")
def folder(chats_pool, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    made = new_proxy(
        tmp_path_factory.mktemp("made") / "proxy", didact.read(chats_pool, cache_dir=cache),
        params="300k", context=128,
    )  # fmt: skip
    return made.path


def test_it_opens_and_has_the_parameters_it_says(folder, pool, tmp_path):
    made = new_proxy(tmp_path / "p", pool, params="300k", context=128)
    check(made.path)
    spec = read_spec(made.path)
    facts = made.facts()
    assert spec.n_total == facts["parameters"] == made.shape.n_params
    assert (
        spec.n_embedding == facts["embedding"] == facts["parameters"] - facts["without_embedding"]
    )
    assert spec.tied
    assert abs(facts["parameters"] / 300_000 - 1) < 0.15
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


def test_an_untrained_model_knows_nothing(folder, pool):
    with open_model(folder, device="cpu") as model:
        turns = pool.read(range(64), ["turns"]).column("turns")
        tokens = encode(turns, model.tokenizer, Encoding(kind=pool.kind, max_length=128))
        assert not tokens.missing
        batch = collate(tokens, tokens.scored, pad_id=model.pad_id, device="cpu")
        with torch.inference_mode():
            loss = float(causal_losses(model.module, batch).mean())
        # logits have a standard deviation of 0.02 √width = 0.2, which adds half its square
        assert loss == pytest.approx(math.log(model.spec.vocab), abs=0.1)


def test_any_text_comes_back_from_its_tokens(folder):
    with open_model(folder, device="cpu") as model:
        tokenizer = model.tokenizer
        for text in [
            "",
            "a",
            "ÄÖ 猫 \U0001f600",
            "\t x\n\n y",
            "1234 + 5.6",
            "\x00\u202e",
            "  a  ",
        ]:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        assert len(tokenizer("12345", add_special_tokens=False)["input_ids"]) == 5
        chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
        written = tokenizer.apply_chat_template(chat, tokenize=False)
        assert written == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
        ids = tokenizer(written, add_special_tokens=False)["input_ids"]
        assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


SCRIPT = """
import sys, didact
from didact.models.proxy import new_proxy
path, same, other = sys.argv[1:]
pool = didact.read(path)
new_proxy(same, pool, params="300k", context=128)
new_proxy(other, pool, params="300k", context=128, seed=1)
"""


def test_the_same_pool_and_seed_give_the_same_bytes_in_another_process(
    folder, chats_pool, tmp_path
):
    command = [sys.executable, "-c", SCRIPT, chats_pool, tmp_path / "same", tmp_path / "other"]
    subprocess.run(command, check=True, capture_output=True)
    files = sorted(p.name for p in folder.iterdir())
    assert files == sorted(p.name for p in (tmp_path / "same").iterdir())
    differ = {n for n in files if (folder / n).read_bytes() != (tmp_path / "same" / n).read_bytes()}
    assert not differ
    other = {n for n in files if (folder / n).read_bytes() != (tmp_path / "other" / n).read_bytes()}
    assert other == {"model.safetensors"}


def test_what_is_there_is_not_written_over(pool, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(ConfigError, match="not empty"):
            new_proxy(tmp_path / name, pool, params="300k")
    (tmp_path / "empty").mkdir()
    new_proxy(tmp_path / "empty", pool, params="100k", vocab=300)
    assert read_spec(tmp_path / "empty").n_layers


def test_a_killed_run_leaves_no_half_model(pool, tmp_path, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", killed)
    with pytest.raises(KeyboardInterrupt):
        new_proxy(tmp_path / "p", pool, params="300k")
    assert not list(tmp_path.iterdir())


def test_the_tokenizer_sees_a_bounded_even_share_and_no_validation_row(chats_pool, monkeypatch):
    pool = didact.read(chats_pool, validation=0.25, seed=3)
    texts = list(proxy._sample(pool))
    assert len(texts) == len(pool) - int(pool.in_validation.sum()) < len(pool)
    held = [row for row in range(len(pool)) if pool.in_validation[row]]
    assert not set(pool.read(held, ["text"]).column("text").to_pylist()) & set(texts)
    monkeypatch.setattr(proxy, "SAMPLE_BYTES", int(pool.n_bytes.sum()) // 4)
    fewer = list(proxy._sample(pool))
    assert set(fewer) < set(texts)
    assert sum(map(len, fewer)) == pytest.approx(sum(map(len, texts)) / 4, rel=0.3)


def test_settings_that_cannot_be_met(pool, tmp_path):
    with pytest.raises(ConfigError, match="256 bytes"):
        new_proxy(tmp_path / "p", pool, params="300k", vocab=100)
    with pytest.raises(ConfigError, match="context=1"):
        new_proxy(tmp_path / "p", pool, params="300k", context=1)
    assert not list(tmp_path.iterdir())


def test_a_small_pool_gives_fewer_tokens_and_still_the_size(tmp_path):
    small = tmp_path / "small.jsonl"
    small.write_text('{"text": "abc abc abd"}\n' * 5)
    made = new_proxy(tmp_path / "p", didact.read(small), params="500k")
    config = json.loads((made.path / "config.json").read_text())
    assert config["vocab_size"] == made.shape.vocab < 300
    assert made.shape.n_params == pytest.approx(500_000, rel=0.15)
