from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from didact.core.binding import as_json, bind
from didact.core.budget import Budget
from didact.core.errors import ConfigError
from didact.core.identity import about
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.execution.executors import serial
from didact.scoring.around.score_pool import score_pool
from didact.scoring.bits_per_byte import BitsPerByte
from didact.scoring.judging.model_scorer import NOT_FINITE
from didact.scoring.perplexity import Perplexity
from didact.selection.around.choose import choose
from didact.selection.middle import middle
from didact.testing import chat, make_pool

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.nn import functional  # noqa: E402

SaveLlama = Callable[..., Path]
# Sums of a few hundred float64 products of order 1, in tensors of another shape.
SAME = {"rtol": 1e-12}


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(executor=serial(), seed=1, cache_dir=tmp_path / "cache")


def run(pool: Pool, method: type, ctx: Context, **settings: Any) -> Scores:
    name = about(method).name
    bound = bind(method, settings, f"score.{name}")
    return score_pool(pool, name, method(**bound), as_json(method, bound), None, ctx)


WORDS = ["the", "answer", "to", "the", "question", "is", "not", "the", "question", "itself", "so"]


def text_rows(lengths: list[int]) -> list[Mapping[str, Any]]:
    """Texts of so many words, no two alike."""
    random = np.random.default_rng(0)
    return [
        {"id": f"t{i}", "text": f"{i} " + " ".join(random.choice(WORDS, n))}
        for i, n in enumerate(lengths)
    ]


def losses(folder: Path, text: str, size: int, stride: int) -> list[list[float]]:
    """NLL of every token of a text after BOS, by the window that predicts it first."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)])
    out: list[list[float]] = []
    reached = start = 0
    while reached < len(ids):
        window = ids[start : start + size]
        with torch.no_grad():
            logits = model(window[None]).logits[0]
        nll = functional.cross_entropy(logits[:-1], window[1:], reduction="none").tolist()
        out.append(nll[max(reached - start - 1, 0) :])
        reached, start = start + len(window), start + stride
    return out


def test_perplexity_is_exp_of_the_mean_loss_per_token(tiny_model, tmp_path, ctx):
    rows = text_rows([1, 5, 30])
    pool = make_pool(rows, tmp_path)
    found = run(pool, Perplexity, ctx, model=str(tiny_model), dtype="float64")
    for row, sample in enumerate(rows):
        (nll,) = losses(tiny_model, sample["text"], 256, 128)
        np.testing.assert_allclose(found.values[row], np.exp(np.mean(nll)), **SAME)
        np.testing.assert_allclose(found.parts["nats"][row], np.sum(nll), **SAME)
        assert found.parts["tokens"][row] == len(nll)
    assert "truncated" not in found.parts


def test_bits_per_byte_is_the_sum_over_the_text(tiny_model, tmp_path, ctx):
    rows = [{"id": "a", "text": "the 猫 answers"}, *text_rows([40])]
    pool = make_pool(rows, tmp_path)
    found = run(pool, BitsPerByte, ctx, model=str(tiny_model), dtype="float64", window=20)
    for row, sample in enumerate(rows):
        nll = sum(map(sum, losses(tiny_model, sample["text"], 20, 10)))
        expected = nll / np.log(2) / len(sample["text"].encode())
        np.testing.assert_allclose(found.values[row], expected, **SAME)


def test_bits_per_byte_has_the_bytes_of_the_tokens_whose_bits_it_adds(tiny_model, tmp_path, ctx):
    own = {"model": str(tiny_model), "dtype": "float64"}
    pool = make_pool([chat("a", "why", "the question")], tmp_path)
    found = run(pool, BitsPerByte, ctx, **own, template="roles")
    # BOS, "user: why\nassistant:" without loss; " the", " question" and EOS count
    (nll,) = losses(tiny_model, "user: why\nassistant: the question<|endoftext|>", 256, 128)
    answer = sum(nll[-int(found.parts["tokens"][0]) :])
    bytes_ = len(" the question") + len("<|endoftext|>")
    np.testing.assert_allclose(found.values[0], answer / np.log(2) / bytes_, **SAME)
    # The model's own template has no BOS, so that its first mark is not foretold.
    found = run(pool, BitsPerByte, ctx, **own, loss="all")
    text = "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\nthe question<|im_end|>\n"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    ids = torch.tensor(tokenizer.encode(text, add_special_tokens=False))
    with torch.no_grad():
        nats = functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="sum")
    expected = float(nats) / np.log(2) / (len(text) - len("<|im_start|>"))
    np.testing.assert_allclose(found.values[0], expected, **SAME)


def test_of_a_long_sample_every_token_counts_once_unlike_in_the_code_of_ccds(
    tiny_model, tmp_path, ctx
):
    (row,) = text_rows([33])
    size, stride = 24, 8
    found = run(
        make_pool([row], tmp_path), Perplexity, ctx,
        model=str(tiny_model), dtype="float64", window=size, stride=stride,
    )  # fmt: skip
    by_window = losses(tiny_model, row["text"], size, stride)
    each = [nll for window in by_window for nll in window]
    assert len(by_window) > 2
    np.testing.assert_allclose(found.values[0], np.exp(np.mean(each)), **SAME)
    # As CCDS does it: the mean over windows, although the first predicts 23 tokens, others 8 or
    # fewer.
    as_released = np.exp(np.mean([np.mean(window) for window in by_window]))
    assert abs(found.values[0] / as_released - 1) > 1e-3


def test_a_chat_counts_its_answers_and_ccds_its_prompt_as_well(tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "the question", "so on")], tmp_path)
    settings = {"model": str(tiny_model), "dtype": "float64", "template": "plain"}
    answer = run(pool, Perplexity, ctx, **settings)
    everything = run(pool, Perplexity, ctx, **settings, loss="text")
    (nll,) = losses(tiny_model, "the question\nso on", 256, 128)
    np.testing.assert_allclose(everything.values[0], np.exp(np.mean(nll)), **SAME)
    assert answer.parts["tokens"][0] < everything.parts["tokens"][0]
    assert answer.values[0] != pytest.approx(everything.values[0], rel=1e-3)


def test_prefer_turns_the_ranking_and_no_value(tiny_model, tmp_path, ctx):
    pool = make_pool(text_rows(list(range(1, 12))), tmp_path)
    low, high = (
        run(pool, Perplexity, ctx, model=str(tiny_model), prefer=prefer)
        for prefer in ("lowest", "highest")
    )
    assert low.values.tolist() == high.values.tolist()
    assert (low.values > 1).all()
    assert np.argmax(low.utility) == np.argmin(low.values)
    assert np.argmax(high.utility) == np.argmax(high.values)
    # The middle band is a selector's: the rows whose rank is nearest to the center, either way.
    budget = Budget(samples=3)
    chosen = [choose(middle, pool, scores, budget, ctx).rows.tolist() for scores in (low, high)]
    assert chosen[0] == chosen[1] == sorted(np.argsort(low.values)[4:7])


def test_a_cut_sample_is_told(tiny_model, tmp_path, ctx):
    rows = text_rows([3, 60])
    pool = make_pool(rows, tmp_path)
    settings = {"model": str(tiny_model), "dtype": "float64"}
    found = run(pool, Perplexity, ctx, **settings, max_length=21)
    assert found.parts["truncated"].tolist() == [0, 1]
    assert found.parts["tokens"][1] == 20
    (nll,) = losses(tiny_model, rows[1]["text"], 256, 128)
    np.testing.assert_allclose(found.values[1], np.exp(np.mean(nll[:20])), **SAME)
    # A cut beyond the window is no contradiction: what is left is read in windows.
    far = run(pool, Perplexity, ctx, **settings, max_length=41, window=16)
    assert far.parts["tokens"][1] == 40
    assert run(pool, Perplexity, ctx, **settings, max_length=300).parts["truncated"].sum() == 0


def test_a_completion_beyond_the_cut_is_missing(tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "long " * 50, "x"), chat("b", "q", "x")], tmp_path)
    found = run(pool, Perplexity, ctx, model=str(tiny_model), max_length=40)
    assert "does not begin within the first 40 tokens" in found.missing[0]
    assert list(found.missing) == [0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 300}, r"score\.perplexity\.window=300.*at most 256 tokens"),
        ({"window": 16, "stride": 16}, r"stride=16.*less than the window of 16"),
        ({"prefer": "middle"}, r"score\.perplexity\.prefer.*'lowest' or 'highest'"),
        ({"device": "cuda"} if not torch.cuda.is_available() else {"stride": 256}, "cuda|stride"),
    ],
)
def test_settings_that_cannot_be(settings, message, tiny_model, tmp_path, ctx):
    pool = make_pool(text_rows([3]), tmp_path)
    with pytest.raises(ConfigError, match=message):
        run(pool, Perplexity, ctx, model=str(tiny_model), **settings)


def test_a_nan_makes_its_own_rows_missing_and_changes_no_other(save_llama, tmp_path, ctx):
    folder = save_llama(tmp_path / "model", tie_word_embeddings=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    token = transformers.AutoTokenizer.from_pretrained(folder).encode("%")[0]
    rows = text_rows([30, 2, 9, 40])
    rows[2] = {"id": "bad", "text": "100 % of it"}
    rows[3] = {"id": "late", "text": rows[3]["text"] + " %"}  # in the last of many windows
    rows[3]["text"] += " so on"
    pool = make_pool(rows, tmp_path)
    settings = {"model": str(folder), "dtype": "float64", "window": 16}
    sound = run(pool, Perplexity, ctx, **settings)
    assert not sound.missing
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = float("nan")
    model.save_pretrained(folder)
    found = run(pool, Perplexity, ctx, **settings)
    assert found.missing == {2: NOT_FINITE, 3: NOT_FINITE}
    np.testing.assert_allclose(found.values[:2], sound.values[:2], **SAME)


@pytest.mark.parametrize("method", [Perplexity, BitsPerByte])
def test_a_sample_does_not_depend_on_its_batch(method, tiny_model, tmp_path, ctx):
    answers = [row["text"] for row in text_rows(list(range(1, 60, 4)))]
    rows = [chat(f"t{i}", answers[-i], answer) for i, answer in enumerate([*answers, ""])]
    settings = {"model": str(tiny_model), "dtype": "float64", "window": 32}
    expected = run(make_pool(rows, tmp_path), method, ctx, **settings)
    assert list(expected.missing) == [15]
    for batch_rows, budget in ((1, 1), (4, 100), (16, 100_000)):
        pool = make_pool(rows, tmp_path / str(batch_rows), batch_rows=batch_rows)
        found = run(pool, method, ctx, **settings, tokens_per_batch=budget)
        np.testing.assert_allclose(found.values, expected.values, **SAME)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_the_batch_moves_a_score_by_rounding_alone(dtype, bound, tiny_model, tmp_path, ctx):
    """The bounds that the page of perplexity states."""
    pool = make_pool(text_rows(list(range(1, 90, 3))), tmp_path)
    settings = {"model": str(tiny_model), "dtype": dtype}
    alone = run(pool, Perplexity, ctx, **settings, tokens_per_batch=1).values
    among = run(pool, Perplexity, ctx, **settings, tokens_per_batch=8192).values
    exact = run(pool, Perplexity, ctx, model=str(tiny_model), dtype="float64").values
    moved = np.abs(among / alone - 1).max()
    assert moved <= bound  # 4e-7 and 1.2e-3 where this was written
    assert np.abs(among / exact - 1).max() <= 2 * bound


def test_memory_that_runs_out_changes_no_score(tiny_model, tmp_path, ctx, monkeypatch):
    pool = make_pool(text_rows(list(range(2, 40, 3))), tmp_path)
    settings = {"model": str(tiny_model), "dtype": "float64"}
    expected = run(pool, Perplexity, ctx, **settings)
    forward = transformers.LlamaForCausalLM.forward
    refused = []

    def small(self: Any, input_ids: Any, **more: Any) -> Any:
        if input_ids.numel() > 100:
            refused.append(input_ids.numel())
            raise torch.OutOfMemoryError("no memory for so many tokens")
        return forward(self, input_ids, **more)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", small)
    found = run(pool, Perplexity, ctx, **settings)
    assert refused
    np.testing.assert_allclose(found.values, expected.values, **SAME)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("text", {}), ("text", {"window": 32, "stride": 8}), ("chat", {}), ("chat", {"loss": "all"})],
    ids=str,
)
def test_the_estimate_is_what_is_executed(kind, settings, tiny_model, tmp_path, ctx, flop_counter):
    random = np.random.default_rng(2)
    lengths = random.lognormal(3, 0.5, 400).astype(int) + 1
    rows: list[Any] = text_rows(lengths.tolist())
    if kind == "chat":
        rows = [chat(row["id"], row["text"], "so on and so on") for row in rows]
    pool = make_pool(rows, tmp_path, tokenizer=str(tiny_model / "tokenizer.json"))
    scorer = Perplexity(model=str(tiny_model), tokens_per_batch=512, **settings)
    estimate = scorer.estimate(pool.stats, None)
    fitted = scorer.fit(pool, None, ctx)
    with fitted.open(0, "cpu") as score, flop_counter() as counter:
        cost = score(pool.read(range(len(pool)), ["turns"])).cost
    assert estimate.flops == pytest.approx(counter.get_total_flops(), rel=0.05)
    # Rotary angles are a product too, and not in the formula.
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.005)
    assert cost.tokens == pytest.approx(estimate.tokens, rel=0.03)  # padding is no token


def test_of_a_long_prompt_only_windows_that_count_are_read(tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "long prompt " * 60, "x")], tmp_path)
    scorer = Perplexity(model=str(tiny_model), window=32)
    with scorer.fit(pool, None, ctx).open(0, "cpu") as score:
        assert score(pool.read(range(1), ["turns"])).cost.tokens <= 64
