from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from didact.core.errors import ConfigError
from didact.core.render import CHOSEN, REJECTED, SHARED, TURNS, derive

pytest.importorskip("torch")
pytest.importorskip("transformers")

from didact.models.encode import Encoding, _token_bytes, encode, overhead, reasoning_place
from didact.models.language_model import open_tokenizer
from didact.models.tokens import Tokens

CHAT = Encoding(kind="chat")
# In the manner of the published templates: Llama 3 trims contents and writes BOS itself, Qwen has a
# system turn of its own, Gemma trims, renames the assistant and refuses system turns, Qwen 3 drops
# the thoughts of all turns but the last.
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
QWEN = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if loop.last or m.role == 'user' %}{{ m.content }}"
    "{% else %}{{ m.content.split('</think>')[-1] }}{% endif %}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return open_tokenizer(tiny_model)


def sample(*turns: tuple[str, str] | tuple[str, str, float], part: int = SHARED) -> list[Any]:
    """Turns; those of the assistant are learned unless a weight says otherwise."""
    return [
        {
            "part": part,
            "role": turn[0],
            "content": turn[1],
            "weight": turn[2] if len(turn) > 2 else float(turn[0] == "assistant"),
        }
        for turn in turns
    ]


def tokens_of(samples: list[Any], tokenizer: Any, how: Encoding = CHAT) -> Tokens:
    return encode(pa.array(samples, TURNS), tokenizer, how)


def ids(tokens: Tokens, row: int = 0) -> list[int]:
    return tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()


def weights(tokens: Tokens, row: int = 0) -> list[float]:
    return tokens.weights[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()


def counted(tokens: Tokens, tokenizer: Any, row: int = 0, weight: float | None = None) -> list[str]:
    """The text of every unbroken run of tokens that count."""
    out, run = [], []
    for token, w in [*zip(ids(tokens, row), weights(tokens, row), strict=True), (0, 0.0)]:
        if w and (weight is None or w == weight):
            run.append(token)
        elif run:
            out.append(tokenizer.decode(run))
            run = []
    return out


ASK = ("user", "how many?")
TEMPLATES = {
    "llama": (LLAMA, "<|eot|>", ""),
    "qwen": (QWEN, "<|im_end|>\n", ""),
    "gemma": (GEMMA, "</turn>\n", ""),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_that_are_learned_count_from_the_generation_prompt_to_their_end(name, tokenizer):
    tokenizer.chat_template, end, _ = TEMPLATES[name]
    turns = sample(ASK, ("assistant", "two of them"), ("user", "and?"), ("assistant", "three"))
    tokens = tokens_of([turns], tokenizer)
    messages = [{"role": t["role"], "content": t["content"]} for t in turns]
    assert ids(tokens) == tokenizer.apply_chat_template(messages, return_dict=False)
    assert counted(tokens, tokenizer) == [f"two of them{end}", f"three{end}"]
    assert tokens.n_bytes.tolist() == [len(f"two of them{end}three{end}")]
    assert tokens.missing == {}


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_contents_that_a_template_trims_are_found(name, tokenizer):
    tokenizer.chat_template, end, _ = TEMPLATES[name]
    turns = sample(("user", "  how many? \n"), ("assistant", " \n four  "), ("user", " so "))
    tokens = tokens_of([turns], tokenizer)
    assert counted(tokens, tokenizer) == [f"four{end}"]


def test_an_answer_that_stands_in_the_question_is_not_taken_for_it(tokenizer):
    tokenizer.chat_template = QWEN
    tokens = tokens_of([sample(("user", "yes or no? yes"), ("assistant", "yes"))], tokenizer)
    assert counted(tokens, tokenizer) == ["yes<|im_end|>\n"]
    assert ids(tokens)[-6:] == tokenizer.encode("assistant\nyes<|im_end|>\n")[-6:]
    assert [w for w in weights(tokens)[:-5] if w] == []


def test_every_turn_has_a_weight_of_its_own(tokenizer):
    turns = sample(
        ASK, ("assistant", "first", 0.5), ("user", "b"), ("assistant", "second", 0.0),
        ("user", "taught", 0.25), ("assistant", "third", 1.0),
    )  # fmt: skip
    tokens = tokens_of([turns], tokenizer)
    for weight, text in ((0.5, "first"), (1.0, "third")):
        assert counted(tokens, tokenizer, weight=weight) == [f"{text}<|im_end|>\n"]
    assert "taught" in counted(tokens, tokenizer, weight=0.25)[0]
    assert not any("second" in text for text in counted(tokens, tokenizer))


def test_a_template_that_refuses_a_sample_makes_it_missing_and_no_other(tokenizer):
    tokenizer.chat_template = GEMMA
    rows = [sample(("system", "be good"), ASK, ("assistant", "x")), sample(ASK, ("assistant", "y"))]
    tokens = tokens_of(rows, tokenizer)
    assert list(tokens.missing) == [0]
    assert "System role not supported" in tokens.missing[0]
    assert tokens.scored.tolist() == [1]
    assert counted(tokens, tokenizer, 1) == ["y</turn>\n"]


@pytest.mark.parametrize("thought", ["hm", "a longer thought, beyond the prompt's own length" * 2])
def test_a_template_that_rewrites_earlier_turns_counts_what_it_shows(thought, tokenizer):
    tokenizer.chat_template = THINKING
    answer = f"<think>{thought}</think>four"
    turns = sample(
        ASK, ("assistant", answer), ("user", "sure?"), ("assistant", "<think>a</think>b")
    )
    tokens = tokens_of([turns], tokenizer)
    # The first answer, with its thoughts, is nowhere in the conversation, so it does not count.
    assert counted(tokens, tokenizer) == ["<think>a</think>b</>"]
    alone = tokens_of([turns[:2]], tokenizer)
    assert counted(alone, tokenizer) == [f"{answer}</>"]


def test_a_template_that_ends_turns_otherwise_at_the_end_counts_contents(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if loop.last %}</last>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turns = sample(("user", "no"), ("assistant", "no"), ("user", "no"), ("assistant", "no no"))
    # The conversation so far, "<user>no</last><assistant>", never begins the whole of it.
    tokens = tokens_of([turns], tokenizer)
    assert counted(tokens, tokenizer) == ["no", "no no"]
    first = next(i for i, w in enumerate(weights(tokens)) if w)
    assert tokenizer.decode(ids(tokens)[:first]) == "<user>no<assistant>"


def test_an_answer_without_a_question_counts_without_its_header(tokenizer):
    tokenizer.chat_template = QWEN
    tokens = tokens_of([sample(("assistant", "four"))], tokenizer)
    assert counted(tokens, tokenizer) == ["four<|im_end|>\n"]


def test_a_token_belongs_to_the_turn_in_which_it_ends(tokenizer):
    how = Encoding(kind="chat", template="roles")
    tokens = tokens_of([sample(ASK, ("assistant", "the question"))], tokenizer, how)
    # "assistant: the" has the token " the": a space of the header and the answer's first word.
    assert counted(tokens, tokenizer) == [" the question<|endoftext|>"]
    # 4 bytes of " the" with the space of the header, 9 of " question", 13 of "<|endoftext|>"
    assert tokens.n_bytes.tolist() == [26]


def test_the_bytes_of_a_first_token_that_nothing_predicts_do_not_count(tokenizer):
    chat = sample(ASK, ("assistant", "four"))
    whole = tokens_of([chat], tokenizer, Encoding(kind="chat", loss="all"))
    assert weights(whole)[0] == 0
    text = "<|im_start|>user\nhow many?<|im_end|>\n<|im_start|>assistant\nfour<|im_end|>\n"
    assert tokenizer.decode(ids(whole)) == text
    assert whole.n_bytes.tolist() == [len(text) - len("<|im_start|>")]
    tokenizer.bos_token = tokenizer.eos_token = None
    raw = tokens_of([sample(("text", "the 猫 so"))], tokenizer, Encoding(kind="text"))
    assert tokenizer.decode(ids(raw)[:1]) == "the"
    assert raw.n_bytes.tolist() == [1 + 3 + 3]  # " 猫 so"


def test_bytes_of_tokens_add_up_to_the_text():
    text = "aé猫😀b"
    ends = np.array([1, 2, 3, 3, 3, 5])  # three tokens for 猫, and one for the last two characters
    assert _token_bytes(text, ends).tolist() == [1, 2, 0, 0, 3, 5]
    assert _token_bytes("", np.array([], np.int64)).tolist() == []


def test_every_byte_of_a_character_counts(tokenizer):
    how = Encoding(kind="chat", template="plain")
    tokens = tokens_of([sample(ASK, ("assistant", "猫😀"))], tokenizer, how)
    assert sum(w > 0 for w in weights(tokens)) == 7 + 1  # seven tokens of a byte, and EOS
    assert counted(tokens, tokenizer) == ["猫😀<|endoftext|>"]
    assert tokens.n_bytes.tolist() == [7 + len("<|endoftext|>")]


def test_own_templates_start_with_bos_and_end_with_eos(tokenizer):
    how = Encoding(kind="chat", template="chatml")
    turns = sample(ASK, ("assistant", "four"), ("user", "thanks"))
    tokens = tokens_of([turns], tokenizer, how)
    text = tokenizer.decode(ids(tokens))
    assert text == (
        "<|endoftext|><|im_start|>user\nhow many?<|im_end|>\n<|im_start|>assistant\nfour<|im_end|>"
        "\n<|im_start|>user\nthanks<|im_end|><|endoftext|>"
    )
    assert counted(tokens, tokenizer) == ["four<|im_end|>"]  # the last turn is not learned: no EOS


def test_all_counts_every_token_but_the_first(tokenizer):
    how = Encoding(kind="chat", loss="all")
    turns = sample(ASK, ("assistant", "four", 0.25))
    tokens = tokens_of([turns], tokenizer, how)
    assert weights(tokens) == [0.0] + [1.0] * (len(ids(tokens)) - 1)


def test_text_is_read_without_template_and_without_eos(tokenizer):
    chat = Encoding(kind="chat", loss="text", pool_template="roles")
    tokens = tokens_of([sample(ASK, ("assistant", "four"))], tokenizer, chat)
    text = "user: how many?\nassistant: four"
    assert tokenizer.decode(ids(tokens)) == "<|endoftext|>" + text
    raw = tokens_of([sample(("text", text))], tokenizer, Encoding(kind="text"))
    assert ids(raw) == ids(tokens)
    assert weights(raw) == weights(tokens) == [0.0] + [1.0] * (len(ids(raw)) - 1)
    assert raw.n_bytes.tolist() == [len(text)]


def test_text_needs_no_chat_template(tokenizer):
    tokenizer.chat_template = None
    turns = [sample(ASK, ("assistant", "four"))]
    assert len(tokens_of(turns, tokenizer, Encoding(kind="chat", loss="text")).scored) == 1
    assert len(tokens_of(turns, tokenizer, Encoding(kind="chat", template="plain")).scored) == 1
    with pytest.raises(ConfigError, match="no chat template.*template=roles.*loss=text"):
        tokens_of(turns, tokenizer)


def test_a_slow_tokenizer_is_an_error(tokenizer):
    with pytest.raises(ConfigError, match="slow tokenizer"):
        tokens_of([], SimpleNamespace(is_fast=False))


def test_pairs_are_the_prompt_with_the_chosen_answer(tokenizer):
    for how in (Encoding(kind="pair"), Encoding(kind="pair", template="plain")):
        turns = [
            *sample(ASK),
            *sample(("assistant", "the good one"), part=CHOSEN),
            *sample(("assistant", "the bad one"), part=REJECTED),
        ]
        pair = tokens_of([turns], tokenizer, how)
        plain = tokens_of([sample(ASK, ("assistant", "the good one"))], tokenizer, how)
        assert ids(pair) == ids(plain)
        assert weights(pair) == weights(plain)


@pytest.mark.parametrize("template", ["model", "plain", "roles", "chatml"])
@pytest.mark.parametrize("answer", ["", " \n "])
def test_an_empty_answer_has_nothing_to_predict(template, answer, tokenizer):
    how = Encoding(kind="chat", template=template)
    rows = [sample(ASK, ("assistant", answer)), sample(ASK, ("assistant", "x"))]
    tokens = tokens_of(rows, tokenizer, how)
    assert tokens.missing == {0: "the completion has no token to predict"}


def test_an_empty_text_has_nothing_to_predict(tokenizer):
    tokens = tokens_of([sample(("text", ""))], tokenizer, Encoding(kind="text"))
    assert tokens.missing == {0: "the text has no token to predict"}


def test_a_sample_that_no_one_learns_has_nothing_to_predict(tokenizer):
    tokens = tokens_of([sample(ASK), sample(ASK, ("assistant", "x", 0.0))], tokenizer)
    assert set(tokens.missing) == {0, 1}


def test_no_sample_at_all(tokenizer):
    tokens = tokens_of([], tokenizer)
    assert len(tokens) == 0
    assert tokens.scored.tolist() == []


def test_samples_are_cut_and_marked(tokenizer):
    text = "abcdefghij" * 3
    full = tokens_of([sample(("text", text))], tokenizer, Encoding(kind="text"))
    for n in (2, 5, len(ids(full)), len(ids(full)) + 1):
        how = Encoding(kind="text", max_length=n)
        cut = tokens_of([sample(("text", text)), sample(("text", "a"))], tokenizer, how)
        assert ids(cut) == ids(full)[:n]
        assert cut.truncated.tolist() == [n < len(ids(full)), False]
        assert cut.n_bytes[0] == len(tokenizer.decode(ids(cut)[1:]))


def test_bytes_of_a_cut_answer_are_those_that_are_left(tokenizer):
    turns = sample(ASK, ("assistant", "xyzxyz"))
    full = tokens_of([turns], tokenizer)
    first = next(i for i, w in enumerate(weights(full)) if w)
    cut = tokens_of([turns], tokenizer, Encoding(kind="chat", max_length=first + 2))
    assert counted(cut, tokenizer) == ["xy"]
    assert cut.n_bytes.tolist() == [2]


def test_an_answer_beyond_the_cut_is_missing_for_another_reason(tokenizer):
    turns = sample(("user", "long " * 20), ("assistant", "x"))
    cut = tokens_of([turns], tokenizer, Encoding(kind="chat", max_length=9))
    assert list(cut.missing) == [0]
    assert "does not begin within the first 9 tokens; raise max_length" in cut.missing[0]


def test_a_batch_is_its_samples_one_by_one(tokenizer):
    rows = [
        sample(ASK, ("assistant", "four")),
        sample(ASK, ("assistant", "")),
        sample(
            ("system", "be good"), ASK, ("assistant", "猫 " * 9), ("user", "so"), ("assistant", "k")
        ),
    ]
    for how in (CHAT, Encoding(kind="chat", template="roles", max_length=20)):
        together = tokens_of(rows, tokenizer, how)
        for i, row in enumerate(rows):
            one = tokens_of([row], tokenizer, how)
            assert ids(one) == ids(together, i)
            assert weights(one) == weights(together, i)
            assert one.n_bytes[0] == together.n_bytes[i]
            assert one.missing.get(0) == together.missing.get(i)
        part = encode(pa.array(rows, TURNS).slice(1), tokenizer, how)
        assert part.ids.tolist() == ids(together, 1) + ids(together, 2)


@pytest.mark.parametrize(
    "how", [CHAT, Encoding(kind="chat", template="roles"), Encoding(kind="text")], ids=str
)
def test_overhead_is_what_a_template_adds(how, tokenizer):
    turns = sample(("user", "zzzz"), ("assistant", "qqqq"))
    if how.kind == "text":
        turns = sample(("text", "zzzz\nqqqq"))
    found = len(ids(tokens_of([turns], tokenizer, how)))
    text = tokenizer.encode("zzzz\nqqqq", add_special_tokens=False)
    assert overhead(tokenizer, how) == found - len(text)


def test_weights_survive_as_float32(tokenizer):
    tokens = tokens_of([sample(ASK, ("assistant", "x", 0.3))], tokenizer)
    assert tokens.weights.dtype == np.float32
    assert set(tokens.weights.tolist()) == {0.0, float(np.float32(0.3))}


# In the manner of the templates of reasoning models: Qwen 3 and GLM show `reasoning_content` of the
# answers behind the last question, gpt-oss `thinking`, R1 cuts off what stands before `</think>`.
QWEN_3 = (
    "{% set last = namespace(at=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set last.at = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.index0 > last.at %}"
    "<think>\n{{ m.reasoning_content.strip('\n') }}\n</think>\n\n{% endif %}{{ m.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GPT_OSS = (
    "{% for m in messages %}{% if 'thinking' in m %}<analysis>{{ m.thinking }}</>{% endif %}"
    "<{{ m.role }}>{{ m.content }}</>{% endfor %}"
)
R1 = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
THOUGHT = ("reasoning", "two, then two", 1.0)


@pytest.mark.parametrize(
    ("template", "places", "learned"),
    [
        (
            QWEN_3,
            ["reasoning_content"],
            "<think>\ntwo, then two\n</think>\n\nfour<|im_end|>\n",
        ),
        (
            GPT_OSS,
            ["reasoning_content", "thinking"],
            "<analysis>two, then two</><assistant>four</>",
        ),
        (QWEN, ["content"], "<think>\ntwo, then two\n</think>\n\nfour<|im_end|>\n"),
        (R1, [""], "four"),
    ],
    ids=["qwen 3", "gpt-oss", "no reasoning", "cut off"],
)
def test_reasoning_is_learned_where_the_template_takes_it(template, places, learned, tokenizer):
    tokenizer.chat_template = template
    # transformers 5.24 hands `reasoning_content` on as `thinking` as well, earlier ones do not
    assert reasoning_place(tokenizer) in places
    tokens = tokens_of([sample(ASK, THOUGHT, ("assistant", "four"))], tokenizer)
    assert counted(tokens, tokenizer) == [learned]


def test_reasoning_that_a_template_drops_of_earlier_turns_does_not_count(tokenizer):
    tokenizer.chat_template = QWEN_3
    turns = sample(
        ASK, ("reasoning", "hm", 1.0), ("assistant", "first"), ("user", "and?"), THOUGHT,
        ("assistant", "second"),
    )  # fmt: skip
    tokens = tokens_of([turns], tokenizer)
    last = "<think>\ntwo, then two\n</think>\n\nsecond<|im_end|>\n"
    assert counted(tokens, tokenizer) == ["first", last]
    assert "hm" not in tokenizer.decode(ids(tokens))


def test_an_answer_that_is_taught_without_its_reasoning_begins_behind_it(tokenizer):
    tokenizer.chat_template = QWEN_3
    tokens = tokens_of([sample(ASK, (*THOUGHT[:2], 0.0), ("assistant", "four"))], tokenizer)
    assert counted(tokens, tokenizer) == ["four<|im_end|>\n"]
    assert "<think>\ntwo, then two\n</think>" in tokenizer.decode(ids(tokens))


def test_reasoning_that_nothing_answers_is_an_answer_of_its_own(tokenizer):
    tokenizer.chat_template = QWEN_3
    tokens = tokens_of([sample(ASK, THOUGHT)], tokenizer)
    assert counted(tokens, tokenizer) == ["<think>\ntwo, then two\n</think>\n\n<|im_end|>\n"]


@pytest.mark.parametrize("template", ["plain", "roles", "chatml"])
def test_reasoning_stands_in_didacts_templates_as_in_the_pools_text(template, tokenizer):
    tokenizer.bos_token = tokenizer.eos_token = None
    turns = sample(
        ASK, ("reasoning", "hm", 1.0), ("assistant", "1"), ("user", "and?"), ("assistant", "2")
    )
    tokens = tokens_of([turns], tokenizer, Encoding(kind="chat", template=template))
    text = derive(pa.array([turns, turns[3:]], TURNS), "text", template, chat=True).to_pylist()[0]
    assert tokenizer.decode(ids(tokens)) == text
    if template == "chatml":
        assert "<|im_start|>assistant\n<think>\nhm\n</think>\n\n1<|im_end|>\n" in text
