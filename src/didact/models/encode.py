"""Turns of a pool → tokens of a model, with a loss weight for every token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.errors import ConfigError
from didact.core.pool import Kind
from didact.core.render import (
    AROUND,
    REASONING,
    REASONING_KEYS,
    REJECTED,
    THINK,
    TURNS,
    Template,
    around,
    derive,
)
from didact.models.chat_template import rendered
from didact.models.tokens import Sample, Tokens, ragged

Loss = Literal["completion", "all", "text"]
ModelTemplate = Literal["model", "plain", "roles", "chatml"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The way samples become tokens.

    Attributes:
        kind: Kind of the pool's samples.
        loss: The tokens of the loss: `completion` counts the turns a trainer learns, each by its
            weight; `all` every token; `text` every token of the sample written as plain text,
            without a template.
        template: Template of chats: `model` is the tokenizer's own chat template; the others are
            didact's.
        pool_template: Template of the pool's own text, for `loss="text"`.
        max_length: Most tokens of a sample; the rest is cut off. None for no limit.
    """

    kind: Kind
    loss: Loss = "completion"
    template: ModelTemplate = "model"
    pool_template: Template = "plain"
    max_length: int | None = None


def encode(turns: pa.ListArray, tokenizer: Any, how: Encoding) -> Tokens:
    """Tokens of a batch.

    A token belongs to the turn in which it ends. Without the model's own template a sample starts
    with the tokenizer's BOS (its EOS where it has none) and, unless `loss="text"`, ends with EOS.
    Pairs are the prompt with the chosen answer.

    Args:
        turns: The pool's column `turns`, `n` samples.
        tokenizer: A fast tokenizer of transformers.
        how: Template, loss and length.

    Raises:
        ConfigError: The tokenizer has no chat template and none was named, or is not a fast one.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which knows no offsets; save the "
            "model with its fast tokenizer (a tokenizer.json)"
        )
    as_text = how.loss == "text" or how.kind == "text"
    own = as_text or how.template != "model"
    reasons: dict[int, str] = {}
    if as_text:
        texts = derive(turns, "text", how.pool_template, chat=how.kind != "text").to_pylist()
        pieces = [[(text, 1.0)] for text in texts]
    elif how.template == "model":
        check_chat_template(tokenizer)
        pieces = list(_templated(turns.to_pylist(), tokenizer, reasons))
    else:
        pieces = [_written(sample, how.template) for sample in turns.to_pylist()]
    if how.loss != "completion" and not as_text:
        pieces = [[(text, 1.0) for text, _ in sample] for sample in pieces]
    start = start_token(tokenizer) if own else []
    end = [] if as_text or not own or tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return _tokens(pieces, tokenizer, how, start, end, reasons)


def check_chat_template(tokenizer: Any) -> None:
    """Raise ConfigError when the tokenizer has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "the model's tokenizer has no chat template, and the samples are chats; set "
            "template=roles (or plain, chatml), or loss=text to read them as plain text"
        )


def overhead(tokenizer: Any, how: Encoding) -> int:
    """Tokens that template and special tokens add to a sample of one question and one answer."""
    if how.loss == "text" or how.kind == "text":
        return len(start_token(tokenizer))
    turns = [
        {"part": 0, "role": role, "content": "x", "weight": weight}
        for role, weight in (("user", 0.0), ("assistant", 1.0))
    ]
    written = encode(pa.array([turns], TURNS), tokenizer, replace(how, max_length=None))
    ((plain, _),) = _tokenised(["x\nx"], tokenizer)
    return int(written.offsets[-1]) - len(plain)


def start_token(tokenizer: Any) -> list[int]:
    """The first token of samples written without the model's template: BOS, CLS, EOS or none."""
    for token in (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    return []


WeightedText = tuple[str, float]  # a piece of a sample, and the loss weight of its tokens
Turn = Mapping[str, Any]


def _written(sample: Sequence[Turn], template: Template) -> list[WeightedText]:
    """A sample in one of didact's own templates; headers of turns do not count."""
    between = AROUND[template][-1]
    out: list[WeightedText] = []
    behind = ""
    for turn in sample:
        if turn["part"] == REJECTED:
            continue
        header, after = around(turn["role"], template, behind=behind)
        behind = turn["role"]
        out.append((between * bool(out) + header, 0.0))
        weight = float(turn["weight"]) if turn["content"].strip() else 0.0
        out.append((turn["content"] + after, weight))
    return out


def _templated(
    samples: Sequence[Sequence[Turn]], tokenizer: Any, reasons: dict[int, str]
) -> Iterator[list[WeightedText]]:
    """Samples in the model's own chat template."""
    from jinja2.exceptions import TemplateError

    traced = any(turn["role"] == REASONING for sample in samples for turn in sample)
    place = reasoning_place(tokenizer) if traced else ""
    for row, sample in enumerate(samples):
        turns = [turn for turn in sample if turn["part"] != REJECTED]
        try:
            yield _spans(turns, tokenizer, place)
        except TemplateError as error:
            reasons[row] = f"the chat template refuses the sample: {error}"
            yield []


def _spans(turns: Sequence[Turn], tokenizer: Any, place: str) -> list[WeightedText]:
    """The rendered conversation, cut where the weight of the loss changes.

    What a message teaches runs from the generation prompt before it to its end. Some templates
    write the beginning of a conversation otherwise than the conversation's beginning (they drop
    earlier reasoning, say); there what they show of its reasoning and its content alone count.
    """
    messages = list(_messages(turns, place))
    shown = [message for message, *_ in messages]

    def render(n: int, *, prompt: bool) -> str:
        return rendered(tokenizer, shown[:n], prompt=prompt)

    whole = render(len(shown), prompt=False)
    out: list[WeightedText] = []
    at = seen = 0
    for i, (_, weight, said, entirely) in enumerate(messages):
        if not weight or not said:  # an empty answer teaches only when to stop
            if said and (found := whole.find(said[-1], seen)) >= 0:
                seen = found + len(said[-1])
            continue
        opening = render(i, prompt=True) if i else ""  # templates may refuse to open with nothing
        prompted = whole.startswith(opening) and len(opening) >= at
        start, end = _place(whole, said, len(opening) if prompted else seen)
        if prompted:
            closing = whole if i + 1 == len(shown) else render(i + 1, prompt=False)
            if whole.startswith(closing):
                start, end = len(opening) if i and entirely else start, len(closing)
        if start < at or end < start:
            continue  # the template does not show this turn
        out += [(whole[at:start], 0.0), (whole[start:end], weight)]
        at = seen = end
    return [*out, (whole[at:], 0.0)]


def _place(whole: str, said: Sequence[str], after: int) -> tuple[int, int]:
    """Where the last of some texts stands, from the others where they are shown before it."""
    start = whole.find(said[-1], after)
    end = start + len(said[-1])
    for text in said[:-1]:
        if (found := whole.find(text, after, max(start, 0))) >= 0:
            start = found
    return start, end


# A message as templates take it, its weight, its texts, and whether all of it has that weight.
Message = tuple[dict[str, str], float, tuple[str, ...], bool]


def _messages(turns: Sequence[Turn], place: str) -> Iterator[Message]:
    """Messages as a chat template takes them: reasoning goes into its answer's message.

    Args:
        turns: The turns of a sample.
        place: See `reasoning_place`.
    """
    trace: Turn | None = None
    for i, turn in enumerate(turns):
        if turn["role"] == REASONING and _answered(turns, i):
            trace = turn
            continue
        message, weight = {"role": turn["role"], "content": turn["content"]}, float(turn["weight"])
        if turn["role"] == REASONING:  # nothing answers it
            trace, message = turn, {"role": "assistant", "content": ""}
        said, entirely = [message["content"].strip()], True
        if trace is not None and place:
            thought = trace["content"]
            if place == "content":
                message["content"] = THINK[0] + thought + THINK[1] + message["content"]
            else:
                message[place] = thought
            entirely = float(trace["weight"]) == weight
            if entirely:
                said.insert(0, thought.strip())
        trace = None
        yield message, weight, tuple(filter(None, said)), entirely


def _answered(turns: Sequence[Turn], at: int) -> bool:
    """Whether the turn behind a reasoning trace is its answer."""
    return at + 1 < len(turns) and turns[at + 1]["role"] == "assistant"


def reasoning_place(tokenizer: Any) -> str:
    """The key of a message in which the tokenizer's chat template takes reasoning.

    Returns:
        A key; "content" where the template knows none and shows what stands in `<think>` in the
        content; "" where it shows neither.
    """
    mark = "didact-7f3a"
    asked = {"role": "user", "content": "?"}
    said = {"role": "assistant", "content": "!"}
    inside = {**said, "content": f"{THINK[0]}{mark}{THINK[1]}!"}
    tries = {**{key: {**said, key: mark} for key in REASONING_KEYS}, "content": inside}
    for key, message in tries.items():
        if mark in rendered(tokenizer, [asked, message]):
            return key
    return ""


def _tokens(
    pieces: Sequence[Sequence[WeightedText]],
    tokenizer: Any,
    how: Encoding,
    start: list[int],
    end: list[int],
    reasons: dict[int, str],
) -> Tokens:
    """Tokenise every sample as one text and weigh its tokens by the piece they end in.

    The bytes of a sample are those of its tokens that count, no more and no fewer.
    """
    texts = ["".join(text for text, _ in sample) for sample in pieces]
    found = _tokenised(texts, tokenizer)
    samples: list[Sample] = []
    n_bytes = np.zeros(len(texts), np.int64)
    truncated = np.zeros(len(texts), np.bool_)
    end_bytes = [len(tokenizer.eos_token.encode()) for _ in end]
    for row, sample in enumerate(pieces):
        row_ids, ends = found[row]
        bounds = np.cumsum([len(text) for text, _ in sample])
        by_piece = np.asarray([weight for _, weight in sample], np.float32)
        row_weights = by_piece[np.searchsorted(bounds, ends, side="left")] if len(ends) else ends
        last = float(next((w for text, w in reversed(sample) if text), 0.0))
        all_ids = np.concatenate([start, row_ids, end])
        all_weights = np.concatenate([[0.0] * len(start), row_weights, [last] * len(end)])
        all_weights[:1] = 0  # nothing predicts the first token
        all_bytes = np.concatenate([[0] * len(start), _token_bytes(texts[row], ends), end_bytes])
        counted = bool(all_weights.any())
        if how.max_length is not None and len(all_ids) > how.max_length:
            truncated[row] = True
            all_ids, all_weights = all_ids[: how.max_length], all_weights[: how.max_length]
        n_bytes[row] = all_bytes[: len(all_ids)][all_weights != 0].sum()
        if row not in reasons and not all_weights.any():
            reasons[row] = _why_empty(how, counted)
        samples.append((all_ids.astype(np.int32), all_weights.astype(np.float32)))
    return replace(
        ragged(samples), n_bytes=n_bytes, truncated=truncated,
        missing=dict(sorted(reasons.items())),
    )  # fmt: skip


def _tokenised(
    texts: Sequence[str], tokenizer: Any
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Ids and character ends of every text, without special tokens of the tokenizer's own."""
    if not texts:
        return []
    # The library under the tokenizer: transformers' wrapper warns of long texts and copies twice.
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [
        (np.asarray(e.ids, np.int64), np.asarray([o[1] for o in e.offsets], np.int64))
        for e in encoded
    ]


def _token_bytes(text: str, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """UTF-8 bytes of every token: from the end of the one before it to its own.

    Of a character that several tokens share, all bytes are the last one's.

    Args:
        text: The text.
        ends: Where each token ends, in characters, ascending.
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = 1 + sum((points >= first).astype(np.int64) for first in (0x80, 0x800, 0x10000))
    before = np.concatenate([[0], np.cumsum(sizes)])  # bytes before each character
    last = np.flatnonzero(np.append(ends[1:] != ends[:-1], True)) if len(ends) else ends
    out = np.zeros(len(ends), np.int64)
    out[last] = np.diff(before[ends[last]], prepend=0)
    return out


def _why_empty(how: Encoding, counted: bool) -> str:  # noqa: FBT001 - two reasons
    what = "completion" if how.loss == "completion" and how.kind != "text" else "text"
    if counted:
        return (
            f"the {what} does not begin within the first {how.max_length} tokens; "
            "raise max_length, or shorten the sample"
        )
    return f"the {what} has no token to predict"
