"""preference: a prompt with a chosen and a rejected answer, as DPO learns from."""

from __future__ import annotations

from typing import Any, Final

from didact.core.render import CHOSEN, REASONING, REJECTED, SHARED
from didact.data.formats import alpaca
from didact.data.formats.messages import find_messages
from didact.data.rows.columns import Columns, Row, RowError, get, has, named, require
from didact.data.rows.format import Format
from didact.data.rows.json_text import as_messages
from didact.data.rows.reasoning import PAIR_COLUMNS
from didact.data.rows.turns import LEARNED, Turn, chat, opening, shown_only, side


def turns(row: Row, columns: Columns) -> list[Turn]:
    """What both branches share, the chosen branch, the rejected one."""
    if row.get("chosen_messages") is not None:
        columns = {**columns, "chosen": "chosen_messages", "rejected": "rejected_messages"}
    answers = [_answer(row, columns, name) for name in ("chosen", "rejected")]
    if all(isinstance(answer, str) for answer in answers) and not _has_prompt(row, columns):
        cut = shared_words(*answers)
        answers = [answer[cut:] for answer in answers]
        shared = [(SHARED, "user", _answer(row, columns, "chosen")[:cut], 0.0)] if cut else []
    else:
        shared = _prompt(row, columns)
    chosen, rejected = (
        side(answer, columns, name, LEARNED, branch)
        for answer, name, branch in zip(
            answers, ("chosen", "rejected"), (CHOSEN, REJECTED), strict=True
        )
    )
    asked, *both = [[turn[1:3] for turn in turns] for turns in (shared, chosen, rejected)]
    if shared:
        same = repeated(asked, *both)
    else:  # the prompt is implicit: what both sides begin with
        same = shared_turns(*both)
        shared = chosen[:same]
    chosen, rejected = chosen[same:], rejected[same:]
    if not chosen or not rejected:
        raise RowError(
            "chosen and rejected are the same dialogue, or one is the beginning of the other; "
            "expected an answer of its own in each"
        )
    return opening(row, columns) + shown_only(shared) + chosen + rejected


def _answer(row: Row, columns: Columns, name: str) -> Any:
    """One answer of a pair; one that is null is empty, and counted among what should be known."""
    column = columns.get(name, name)
    return "" if get(row, column, row) is None else as_messages(require(row, columns, name))


def _has_prompt(row: Row, columns: Columns) -> bool:
    given = any(has(row, columns, name) for name in ("prompt", "instruction"))
    return given or find_messages(row, columns)[1] is not None


def _prompt(row: Row, columns: Columns) -> list[Turn]:
    """The prompt that stands beside a pair; nothing when it is implicit."""
    prompt = named(row, columns, "prompt")
    if prompt is not None:
        return side(prompt, columns, "prompt", "user")
    if has(row, columns, "instruction"):
        return [alpaca.question(row, columns)]
    name, messages = find_messages(row, columns)
    return [] if messages is None else chat(messages, columns, name)


def shared_turns(chosen: list[Any], rejected: list[Any]) -> int:
    """How many turns, which begin with a role, both sides begin with; last answers are answers."""
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        last = same == min(len(chosen), len(rejected)) - 1
        if a != b or (a[0] == LEARNED and last):
            break
        same += 1
    if same and chosen[same - 1][0] == REASONING:  # it belongs to the answer behind it
        same -= 1
    return same


def repeated(prompt: list[Any], *sides: list[Any]) -> int:
    """How many turns sides repeat of a prompt, which each begins with a role: all, or the last."""
    for n in range(len(prompt), 0, -1):
        ends = n == len(prompt) or prompt[-n][0] == "user"
        if ends and all(turns[:n] == prompt[-n:] for turns in sides):
            return n
    return 0


def shared_words(chosen: str, rejected: str) -> int:
    """Where two texts part, after a space; TRL's `extract_prompt` may cut inside a word."""
    both = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (a, b) in both if a != b), min(len(chosen), len(rejected)))
    while same and not chosen[same - 1].isspace():
        same -= 1
    return same


def _fits(row: Row, columns: Columns) -> bool:
    if row.get("chosen_messages") is not None:
        return True
    answers = [get(row, columns.get(name, name), row) for name in ("chosen", "rejected")]
    return row not in answers and any(answer is not None for answer in answers)


_READ_ROW: Final = """
def read_row(row):
    chosen, rejected = row.get("chosen_messages"), row.get("rejected_messages")
    if chosen is None:
        chosen, rejected = spoken(row, "chosen"), spoken(row, "rejected")
    chosen, rejected = ("" if answer is None else answer for answer in (chosen, rejected))
    prompt = spoken(row, "prompt")
    if prompt is None:
        prompt = chat(row) if column(row, "instruction") is None else question(row)
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        cut = shared_words(chosen, rejected)
        prompt, chosen, rejected = chosen[:cut], chosen[cut:], rejected[cut:]
    if plain(row, prompt, chosen, rejected):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    asked = side(prompt, "user") if prompt else None
    pair = parted(asked, side(chosen, "assistant"), side(rejected, "assistant"))
    return pair | {"prompt": opening(row) + pair["prompt"]}
"""

FORMAT: Final = Format(
    kind="pair",
    content=("chosen", "rejected"),
    turns=turns,
    fits=_fits,
    columns=("prompt", "instruction", "input", "system", "tools"),
    fixed_columns=("chosen_messages", "rejected_messages", "conversations", *PAIR_COLUMNS),
    rank=2,  # without its answers such a row is of another format, or is labelled
    read_row=_READ_ROW,
)
