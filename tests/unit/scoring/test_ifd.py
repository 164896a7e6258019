from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from didact.core.binding import as_json, bind
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.execution.executors import serial
from didact.scoring.around.score_pool import score_pool
from didact.scoring.ifd import IFD, NO_HELP
from didact.scoring.judging.model_scorer import NOT_FINITE
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


def run(pool: Pool, ctx: Context, **settings: Any) -> Scores:
    bound = bind(IFD, {"dtype": "float64", "above_one": "keep", **settings}, "score.ifd")
    return score_pool(pool, "ifd", IFD(**bound), as_json(IFD, bound), None, ctx)


class Reference:
    """Token losses by transformers, one sequence at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)

    def nll(self, before: str, answer: str) -> list[float]:
        """Of the answer's tokens after some text; the two are tokenized as one."""
        start = len(self.tokenizer.encode(before, add_special_tokens=False))
        ids = self.tokenizer.encode(before + answer, add_special_tokens=False)
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0]
        wanted = torch.tensor(ids[start:])
        return functional.cross_entropy(logits[start - 1 : -1], wanted, reduction="none").tolist()


QUESTIONS = ["the question", "not the answer 猫", "so on and on and on", "x"]
ANSWERS = ["the answer is so on", "and the question", "猫", "is it not itself the question?"]
PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))


def test_it_is_the_perplexity_given_the_prompt_over_that_of_the_answer_alone(
    tiny_model, tmp_path, ctx
):
    pool = make_pool([chat(f"t{i}", *pair) for i, pair in enumerate(PAIRS)], tmp_path)
    found = run(pool, ctx, model=str(tiny_model))
    by_loss = run(pool, ctx, model=str(tiny_model), ratio="loss")
    reference = Reference(tiny_model)
    for row, (question, answer) in enumerate(PAIRS):
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        given = reference.nll(prompt, f"{answer}<|im_end|>\n")
        alone = reference.nll("<|endoftext|>", f"{answer}<|im_end|>\n")
        assert len(given) == len(alone) == found.parts["tokens"][row]
        expected = np.exp(np.mean(given)) / np.exp(np.mean(alone))
        np.testing.assert_allclose(found.values[row], expected, **SAME)
        np.testing.assert_allclose(
            found.parts["perplexity_given_prompt"][row], np.exp(np.mean(given)), **SAME
        )
        np.testing.assert_allclose(
            found.parts["perplexity_alone"][row], np.exp(np.mean(alone)), **SAME
        )
        # arXiv:2308.12032 as released: mean losses. Above 1 for the same samples.
        np.testing.assert_allclose(by_loss.values[row], np.mean(given) / np.mean(alone), **SAME)
    assert ((by_loss.values > 1) == (found.values > 1)).all()
    assert found.higher_is_better


def test_every_answer_of_a_conversation_stands_alone(tiny_model, tmp_path, ctx):
    turns = [
        {"role": "user", "content": "the question"},
        {"role": "assistant", "content": "so on"},
        {"role": "user", "content": "and on?"},
        {"role": "assistant", "content": "not the answer itself"},
    ]
    found = run(make_pool([{"id": "a", "messages": turns}], tmp_path), ctx, model=str(tiny_model))
    reference = Reference(tiny_model)
    begin = "<|im_start|>user\nthe question<|im_end|>\n<|im_start|>assistant\n"
    again = "so on<|im_end|>\n<|im_start|>user\nand on?<|im_end|>\n<|im_start|>assistant\n"
    answers = ["so on<|im_end|>\n", "not the answer itself<|im_end|>\n"]
    given = reference.nll(begin, answers[0]) + reference.nll(begin + again, answers[1])
    alone = [nll for answer in answers for nll in reference.nll("<|endoftext|>", answer)]
    expected = np.exp(np.mean(given)) / np.exp(np.mean(alone))
    np.testing.assert_allclose(found.values[0], expected, **SAME)


AROUND_ONE = [
    chat(f"t{i}", QUESTIONS[i % 4] * (1 + i // 4), ANSWERS[(i * 3) % 4] + " so" * i)
    for i in range(12)
]


def around_one(folder: Path, tmp_path: Path, ctx: Context) -> tuple[Pool, Scores]:
    """Samples above and below 1: an untrained model makes no sense of prompts."""
    pool = make_pool(AROUND_ONE, tmp_path)
    found = run(pool, ctx, model=str(folder), template="plain")
    assert 0 < (found.values > 1).sum() < 12
    return pool, found


def test_samples_above_one_are_dropped_as_in_the_paper(tiny_model, tmp_path, ctx):
    pool, kept = around_one(tiny_model, tmp_path, ctx)
    found = run(pool, ctx, model=str(tiny_model), template="plain", above_one="drop")
    above = np.flatnonzero(kept.values > 1).tolist()
    assert found.missing == dict.fromkeys(above, NO_HELP)
    assert IFD(model="m").above_one == "drop"
    np.testing.assert_allclose(found.parts["ifd"], kept.values, **SAME)
    rest = np.setdiff1d(np.arange(12), above)
    np.testing.assert_allclose(found.values[rest], kept.values[rest], **SAME)


def test_when_all_are_above_one_the_error_says_so(tiny_model, tmp_path, ctx):
    _, kept = around_one(tiny_model, tmp_path, ctx)
    pool = make_pool([AROUND_ONE[int(np.argmax(kept.values))]], tmp_path, name="worst")
    with pytest.raises(DataError, match=r"none of the 1 samples has a score.*IFD above 1"):
        run(pool, ctx, model=str(tiny_model), template="plain", above_one="drop")


def test_it_depends_on_the_template_which_is_kept(save_llama, tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "the question", "so on")], tmp_path)
    template = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
        "{% if add_generation_prompt %}[{% endif %}"
    )
    other = save_llama(tmp_path / "other", template=template)
    found = [
        run(pool, ctx, model=str(model), template=how)
        for model, how in ((tiny_model, "model"), (other, "model"), (other, "roles"))
    ]
    assert len({scores.facts["template"] for scores in found}) == 3
    assert found[2].facts["template"] == "roles"
    assert len({round(float(scores.values[0]), 6) for scores in found}) == 3


def test_a_cut_answer_is_cut_alike_in_both(tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "the question", "so on" * 20), chat("b", "x", "y")], tmp_path)
    found = run(pool, ctx, model=str(tiny_model), max_length=40)
    assert found.parts["truncated"].tolist() == [1, 0]
    reference = Reference(tiny_model)
    prompt = "<|im_start|>user\nthe question<|im_end|>\n<|im_start|>assistant\n"
    n = int(found.parts["tokens"][0])
    given = reference.nll(prompt, "so on" * 20)[:n]
    alone = reference.nll("<|endoftext|>", "so on" * 20)[:n]
    np.testing.assert_allclose(
        found.values[0], np.exp(np.mean(given)) / np.exp(np.mean(alone)), **SAME
    )


def test_pairs_are_judged_by_the_chosen_answer(tiny_model, tmp_path, ctx):
    def answer(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    pair = {
        "id": "a",
        "prompt": [{"role": "user", "content": "the question"}],
        "chosen": answer("so on"),
        "rejected": answer("not"),
    }
    pairs = run(make_pool([pair], tmp_path), ctx, model=str(tiny_model))
    chats = make_pool([chat("a", "the question", "so on")], tmp_path, name="chats")
    assert pairs.values.tolist() == run(chats, ctx, model=str(tiny_model)).values.tolist()


def test_raw_text_is_an_error(tiny_model, tmp_path, ctx):
    pool = make_pool([{"id": "a", "text": "so on"}], tmp_path)
    with pytest.raises(ConfigError, match=r"score\.ifd: raw text has no prompts.*perplexity"):
        run(pool, ctx, model=str(tiny_model))


def test_only_completions_make_sense(tiny_model, tmp_path, ctx):
    pool = make_pool([chat("a", "x", "y")], tmp_path)
    with pytest.raises(ConfigError, match=r"score\.ifd\.loss.*'completion'"):
        run(pool, ctx, model=str(tiny_model), loss="all")


def test_a_tokenizer_without_any_start_is_an_error(save_llama, tmp_path, ctx):
    folder = save_llama(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    pool = make_pool([chat("a", "x", "y")], tmp_path)
    with pytest.raises(ConfigError, match="neither BOS nor EOS"):
        run(pool, ctx, model=str(folder))


def test_a_nan_makes_its_own_row_missing_and_changes_no_other(save_llama, tmp_path, ctx):
    folder = save_llama(tmp_path / "model", tie_word_embeddings=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    token = transformers.AutoTokenizer.from_pretrained(folder).encode("%")[0]
    rows = [chat("a", "x", "so on"), chat("b", "100 %", "so"), chat("c", "y", "1 % it is")]
    pool = make_pool(rows, tmp_path)
    sound = run(pool, ctx, model=str(folder))
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = float("nan")
    model.save_pretrained(folder)
    for above_one in ("keep", "drop"):
        found = run(pool, ctx, model=str(folder), above_one=above_one)
        assert {row: found.missing[row] for row in (1, 2)} == {1: NOT_FINITE, 2: NOT_FINITE}
        np.testing.assert_allclose(found.parts["ifd"][0], sound.values[0], **SAME)


def test_a_sample_does_not_depend_on_its_batch(tiny_model, tmp_path, ctx):
    rows = [chat(f"t{i}", "so on " * i, "the answer " * (13 - i)) for i in range(1, 13)]
    expected = run(make_pool(rows, tmp_path), ctx, model=str(tiny_model))
    for batch_rows, budget in ((1, 1), (5, 100), (12, 100_000)):
        pool = make_pool(rows, tmp_path / str(batch_rows), batch_rows=batch_rows)
        found = run(pool, ctx, model=str(tiny_model), tokens_per_batch=budget)
        np.testing.assert_allclose(found.values, expected.values, **SAME)


def test_the_cost_is_what_is_executed(tiny_model, tmp_path, ctx, flop_counter):
    random = np.random.default_rng(2)
    rows = [
        chat(f"t{i}", f"{i} " + " the answer" * (n // 4), "z" + " the answer" * (n // 2))
        for i, n in enumerate(random.lognormal(3, 0.4, 300).astype(int) + 9)
    ]
    pool = make_pool(rows, tmp_path, tokenizer=str(tiny_model / "tokenizer.json"))
    scorer = IFD(model=str(tiny_model), tokens_per_batch=512, template="plain")
    fitted = scorer.fit(pool, None, ctx)
    with fitted.open(0, "cpu") as score, flop_counter() as counter:
        cost = score(pool.read(range(len(pool)), ["turns"])).cost
    # Rotary angles are a product too, and not in the formula.
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.005)
    assert scorer.estimate(pool.stats, None).flops == pytest.approx(cost.flops, rel=0.05)
