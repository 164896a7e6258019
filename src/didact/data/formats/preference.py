"""preference: a prompt with a chosen and a rejected answer, as DPO learns from."""

from __future__ import annotations

from typing import Any, Final

from didact.core.render import CHOSEN, REASONING, SHARED
from didact.data.formats import alpaca
from didact.data.formats.messages import find_messages
from didact.data.rows.columns import Columns, Row, RowError, get, has, named, require
from didact.data.rows.format import Format
from didact.data.rows.json_text import as_messages
from didact.data.rows.labels import SPELLINGS
from didact.data.rows.reasoning import BRANCHES, PAIR_COLUMNS
from didact.data.rows.turns import LEARNED, Turn, chat, earlier, opening, shown_only, side

# Columns of a rejected answer beside a chat, whose own last answer is the chosen one.
HALVES: Final = ("rejected_response", "rejected", "rejected_messages")
ANSWERS: Final = (
    ("chosen_messages", "rejected_messages"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_response", "rejected_response"),
    ("response", "rejected_response"),  # unless messages end with the chosen one
)
_QUESTIONS: Final = ("question", "query")  # columns of a prompt, after all others


def turns(row: Row, columns: Columns) -> list[Turn]:
    """What both branches share, the chosen branch, the rejected one."""
    columns = _named(row, columns)
    half = _half(row, columns)
    if half is not None:
        columns = {**columns, **half}
    ends_chat = half is not None and "chosen" not in half
    answers = ["" if n == "chosen" and ends_chat else _answer(row, columns, n) for n in BRANCHES]
    shared = _prompt(row, columns)
    if shared is None and all(isinstance(answer, str) for answer in answers):
        cut = shared_words(*answers)
        shared = [(SHARED, "user", answers[0][:cut], 0.0)] if cut else []
        answers = [answer[cut:] for answer in answers]
    chosen, rejected = (
        side(answer, columns, name, LEARNED, branch)
        for answer, (name, branch) in zip(answers, BRANCHES.items(), strict=True)
    )
    if ends_chat and shared and rejected[0][1:3] == shared[0][1:3]:  # whole dialogues both
        shared, chosen = [], [(CHOSEN, *turn[1:]) for turn in shared]
    elif ends_chat:
        shared, chosen = _last_answer(shared or [])
    shared, chosen, rejected = _apart(shared or [], chosen, rejected)
    if not chosen or not rejected:
        raise RowError(
            "chosen and rejected are the same dialogue, or one is the beginning of the other; "
            "expected an answer of its own in each"
        )
    start = opening(row, columns)
    if shared and shared[0][1:3] in [turn[1:3] for turn in start]:
        shared = shared[1:]  # the system prompt stands beside the dialogue and in it
    return start + shown_only(earlier(row, columns) + shared) + chosen + rejected


def refuse_late(row: Row, columns: Columns) -> None:
    """Raise RowError when a row has a rejected answer in a file that began without."""
    half = _half(row, columns)
    if half is not None and row.get(half["rejected"]):
        raise RowError(
            f"the row has a rejected answer in {half['rejected']!r}, and is read without it, as "
            "the file's first row is; expected pairs in every row, or in no row: read all without "
            "with --data columns.rejected=-"
        )


def _named(row: Row, columns: Columns) -> Columns:
    """The columns of a pair, where they have names of their own."""
    both = _answers(row, columns)
    if both is None:
        return columns
    named = dict(zip(BRANCHES, both, strict=True))
    if isinstance(row.get("input"), dict):  # as OpenAI has pairs
        named = {"prompt": "input.messages", "tools": "input.tools", **columns, **named}
        return {**named, "input": "-"}
    return {**columns, **named}


def _answers(row: Row, columns: Columns) -> tuple[str, str] | None:
    return answer_columns(row, columns, ends_chat=find_messages(row, columns)[1] is not None)


def answer_columns(row: Any, columns: Any, *, ends_chat: bool) -> tuple[str, str] | None:
    """Columns of both answers of a pair, where they are called otherwise; None where they are not.

    What the user names goes before, and so does a pair that is called `chosen` and `rejected`.

    Args:
        row: The row.
        columns: The user's columns.
        ends_chat: Whether it has messages, which end with the chosen answer.
    """
    if "chosen" in columns or "rejected" in columns:
        return None
    if "rejected" in row and isinstance(row.get("chosen"), str | list | dict):
        return None
    for chosen, rejected in ANSWERS:
        known = chosen != "response" or not ends_chat
        if known and row.get(chosen) is not None and rejected in row:
            return chosen, rejected
    return None


def _half(row: Row, columns: Columns) -> dict[str, str] | None:
    """The columns of a pair whose chosen answer is the answer of a chat; None of any other row.

    Returns:
        `rejected`, and `chosen` unless messages end with it.
    """
    if columns.get("rejected") == "-" or get(row, columns.get("chosen", "chosen"), row) is not row:
        return None
    names = [name for name in (columns.get("rejected", "rejected"), *HALVES) if name in row]
    for name in sorted(names, key=lambda name: not row[name]):
        value = row[name]
        if not isinstance(value, str | list | dict | None):
            continue
        if isinstance(value, str) and value.strip().lower() in SPELLINGS:
            continue  # whether the row itself was rejected
        if find_messages(row, columns)[1] is not None:
            return {"rejected": name}
        for question, answer in (("prompt", "completion"), ("instruction", "output")):
            if has(row, columns, question, answer):
                return {"rejected": name, "chosen": columns.get(answer, answer)}
    return None


def _answer(row: Row, columns: Columns, name: str) -> Any:
    """One answer of a pair; one that is null is empty, and counted among what should be known."""
    column = columns.get(name, name)
    if get(row, column, row) is None:
        return ""
    value = as_messages(require(row, columns, name))
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        raise RowError(
            f"{column} is a list of {len(value)} texts; expected one answer: write a row for each, "
            "or read the rows without with --data columns.rejected=-"
        )
    return value


def _prompt(row: Row, columns: Columns) -> list[Turn] | None:
    """The prompt that stands beside a pair; None when it is implicit."""
    if named(row, columns, "prompt") is not None:
        return side(require(row, columns, "prompt"), columns, "prompt", "user")
    if has(row, columns, "instruction"):
        return [alpaca.question(row, columns)]
    name, messages = find_messages(row, columns)
    if messages is not None:
        return chat(messages, columns, name)
    for question in (*_QUESTIONS, columns.get("input", "input")):
        if get(row, question) is not None:
            return side(get(row, question), {}, question, "user")
    return None


def _last_answer(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """What stands before the last answer of a chat, and that answer as the chosen one."""
    if not turns or turns[-1][1] != LEARNED:
        raise RowError(
            "the row has a rejected answer, and its messages end without one; expected the chosen "
            "answer as the last message, or read the rows without with --data columns.rejected=-"
        )
    cut = len(turns) - 1
    if cut and turns[cut - 1][1] == REASONING:
        cut -= 1
    return turns[:cut], [(CHOSEN, *turn[1:]) for turn in turns[cut:]]


def _apart(
    shared: list[Turn], chosen: list[Turn], rejected: list[Turn]
) -> tuple[list[Turn], list[Turn], list[Turn]]:
    """Prompt and answers, where the sides may repeat the prompt, its end, or hold all of it."""
    asked, *both = [[turn[1:3] for turn in turns] for turns in (shared, chosen, rejected)]
    whole, of_chosen, of_rejected = repeated(asked, *both)
    shared = chosen[:of_chosen] if whole else shared
    return shared, chosen[of_chosen:], rejected[of_rejected:]


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


def repeated(asked: list[Any], chosen: list[Any], rejected: list[Any]) -> tuple[bool, int, int]:
    """How many first turns of the two sides are the prompt's; turns begin with their role.

    Returns:
        Whether they hold all of the prompt, which may be implicit; how many of either side.
    """
    same = shared_turns(chosen, rejected)
    if not asked or chosen[:same][-len(asked) :] == asked:
        return True, same, same
    for n in range(len(asked), 0, -1):
        if chosen[:n] == asked[-n:] == rejected[:n]:
            return False, n, n
    for n in range(len(asked), 0, -1):  # one of the sides may be an answer alone
        if rejected[:n] == asked[-n:]:
            return False, 0, n
    return False, 0, 0


def shared_words(chosen: str, rejected: str) -> int:
    """Where two texts part, after a space; TRL's `extract_prompt` may cut inside a word."""
    both = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (a, b) in both if a != b), min(len(chosen), len(rejected)))
    while same and not chosen[same - 1].isspace():
        same -= 1
    return same


def _fits(row: Row, columns: Columns) -> bool:
    if _answers(row, columns) is not None:
        return True
    answers = [get(row, columns.get(name, name), row) for name in BRANCHES]
    if row not in answers and any(answer is not None for answer in answers):
        return True
    half = _half(row, columns)
    return half is not None and bool(row.get(half["rejected"]))


_READ_ROW: Final = """
def read_row(row):
    prompt, chosen, rejected = sides(row)
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        cut = shared_words(chosen, rejected)
        prompt, chosen, rejected = chosen[:cut], chosen[cut:], rejected[cut:]
    if plain(row, prompt, chosen, rejected):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    asked = side(prompt, "user") if prompt else []
    pair = parted(asked, side(chosen, "assistant"), side(rejected, "assistant"))
    return pair | {"prompt": once(row, pair["prompt"])}


def sides(row):
    names = answer_columns(row, COLUMNS, ends_chat=chat(row) is not None)
    asked = row.get("input")
    if names and isinstance(asked, dict):  # as OpenAI has pairs
        row["tools"] = asked.get("tools")
        return asked["messages"], spoken(row, names[0]), spoken(row, names[1]) or ""
    chosen, rejected = (spoken(row, name) for name in names or ("chosen", "rejected"))
    prompt = spoken(row, "prompt")
    half = COLUMNS.get("rejected", "rejected"), "rejected_response", "rejected_messages"
    half = sorted((name for name in half if name in row), key=lambda name: not row[name])
    if not names and half and COLUMNS.get("chosen", "chosen") not in row:
        rejected = spoken(row, half[0]) if half[0] != COLUMNS.get("rejected") else rejected
        turns = chat(row)
        if turns is not None:
            whole = isinstance(rejected, list) and side(rejected, "")[:1] == turns[:1]
            return (None, turns, rejected) if whole else (turns[:-1], turns[-1:], rejected or "")
        chosen = spoken(row, "completion") if prompt is not None else column(row, "output")
    if prompt is None:
        prompt = question(row) if column(row, "instruction") is not None else chat(row)
    for name in ("question", "query", "input"):
        prompt = spoken(row, name) if prompt is None else prompt
    return prompt, "" if chosen is None else chosen, "" if rejected is None else rejected


def once(row, turns):
    start = opening(row)
    return start + (turns[1:] if turns[:1] and turns[0] in start else turns)
"""

FORMAT: Final = Format(
    kind="pair",
    content=("chosen", "rejected"),
    turns=turns,
    fits=_fits,
    columns=("prompt", "instruction", "input", "system", "history", "tools"),
    fixed_columns=(
        *(name for both in ANSWERS for name in both),
        *("conversations", *HALVES, *_QUESTIONS, *PAIR_COLUMNS),
    ),
    rank=2,  # without its answers such a row is of another format, or is labelled
    read_row=_READ_ROW,
)
