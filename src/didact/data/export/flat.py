"""The rows once more, for trainers that read files by themselves: roles and texts, nothing beside.

What such a trainer cannot read it drops, mostly in silence, and every step after it moves. So rows
are brought into a shape that it takes, whatever they came as.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from didact.core.atomic import replacing
from didact.core.errors import DataError
from didact.core.findings import counted
from didact.core.render import THINK
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import row_reader
from didact.data.rows.columns import Row

Message = dict[str, Any]

_LEARNED: Final = "assistant"


def survey(
    data: OrderedDataSet,
    shape: Callable[[Row], Row],
    also: Callable[[Row], Iterable[str]] = lambda _: (),
) -> Counter[str]:
    """Go through every row before any is written: what is in them, and whether all can be shaped.

    Args:
        data: The rows.
        shape: Row as `read_row` gives it → as the trainer takes it.
        also: Row as the trainer takes it → what else to count it for.

    Returns:
        How many rows hold `tools`, `tool calls`, `reasoning`, `images`, `audio or video`,
        `untrained answers`, `untrained rows` that hold no others, `weighted answers`, `turns
        behind the answer`, `no answer`, and how many end with an `open question` behind answers.

    Raises:
        DataError: A row cannot be shaped; told by its place in the order.
    """
    read, found = row_reader(data, marked=True)
    for number, row in enumerate(data.rows(), 1):
        try:
            before = found["untrained answers"]
            taken = read(row)
            found.update(also(shape(taken)))
        except DataError as error:
            raise DataError(f"row {number} of the order: {error}") from error
        if data.kind == "chat":
            said = turns(taken)
            marks = any("untrained" in turn for turn in said)  # those of a prompt, too
            found["untrained rows"] += found["untrained answers"] - before and not marks
            found["untrained answers"] = before + marks
            answered = any(map(_answers, said))
            found["no answer"] += not answered
            found["open question"] += answered and not _answers(said[-1])
    return found


def write_shaped(
    path: Path, rows: Iterable[Row], data: OrderedDataSet, shape: Callable[[Row], Row]
) -> None:
    """Write rows as JSON lines in the trainer's shape."""
    read, _ = row_reader(data, marked=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(_line(shape(read(row))) for row in rows)


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row) + b"\n"
    except TypeError:  # integers beyond 64 bits, half surrogate pairs
        return json.dumps(row).encode() + b"\n"


# what a row may hold → how one row and several are said to, and what of it
_SAID: Final = {
    "audio or video": (
        ("row holds", "rows hold"),
        "audio or video, which are left out; a mark stands where a message had one",
    ),
    "turns behind the answer": (
        ("row says", "rows say"),
        "more behind the last answer, which is left out",
    ),
    "no answer": (("row has", "rows have"), "no answer; an empty one stands in its place"),
    "open question": (
        ("row ends", "rows end"),
        "without an answer; {trainer} trains an empty one in its place",
    ),
    "untrained answers": (
        ("row marks", "rows mark"),
        "answers as not to be trained; {trainer} trains them all",
    ),
    "untrained rows": (
        ("row marks", "rows mark"),
        "all answers as not to be trained; {trainer} trains them, as it cannot take such a row",
    ),
    "weighted answers": (
        ("row weighs", "rows weigh"),
        "answers more or less than 1; {trainer} weighs them all the same",
    ),
    "reasoning": (
        ("row holds", "rows hold"),
        "reasoning, which stands in the text between <think> and </think>",
    ),
}


def said(found: Counter[str], trainer: str, *, images: str = "images") -> Iterator[str]:
    """Notes on what rows hold that the trainer takes in another way, or not at all.

    Args:
        found: What `survey` gave.
        trainer: What it is called.
        images: The column in which it gets images; "" where it gets none.
    """
    if n := found["images"]:
        yield counted(n, "row holds", "rows hold") + (
            f" images: they are in the column {images!r}, for a model that sees"
            if images
            else " images, which are left out; <image> stands where a message had one"
        )
    for name, (holds, what) in _SAID.items():
        if n := found[name]:
            yield f"{counted(n, *holds)} {what.format(trainer=trainer)}"


def said_of_text(found: Counter[str]) -> Iterator[str]:
    """Notes on what rows hold beside a text, which is all that is taken of them."""
    for name in ("tools", "images", "audio or video"):
        if n := found[name]:
            yield f"{counted(n, 'row holds', 'rows hold')} {name} beside the text; left out"


def turns(row: Row) -> list[Message]:
    """The messages of a chat or a labelled answer."""
    if "messages" in row:
        return list(row["messages"])
    return _side(row["prompt"], "user") + _side(row["completion"], _LEARNED)


def pair(row: Row, trainer: str) -> tuple[list[Message], Message, Message]:
    """What both sides of a pair begin with, and the last answer of each.

    Raises:
        DataError: A side has several turns.
    """
    shared = _side(row["prompt"], "user")
    answers = _side(row["chosen"], _LEARNED), _side(row["rejected"], _LEARNED)
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        if len(answer) != 1:
            raise DataError(
                f"{name} has {len(answer)} turns of its own; {trainer} takes one answer a side: "
                "use trl"
            )
        if answer[0]["role"] != _LEARNED:
            raise DataError(
                f"{name} ends with a turn of the role {answer[0]['role']!r}; {trainer} takes an "
                "answer: leave such rows out"
            )
    return shared, answers[0][0], answers[1][0]


def _side(value: Any, role: str) -> list[Message]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


# -- messages as texts -----------------------------------------------------------------------------


def thought(turn: Message) -> str:
    """The text of a message with its reasoning before it."""
    trace, text = turn.get("reasoning_content"), str(turn["content"])
    return THINK[0] + trace + THINK[1] + text if trace else text


def calls(turn: Message) -> list[dict[str, Any]]:
    """The tool calls of a message as names and arguments."""
    out = []
    for call in turn.get("tool_calls", []):
        function = _function(call)
        arguments = _parsed(function.get("arguments") or {})
        if not isinstance(arguments, dict):
            arguments = {"arguments": arguments}
        out.append({"name": str(function.get("name") or ""), "arguments": arguments})
    return out


def _function(given: Any) -> Row:
    """The function of a call or of a tool: an object of its own, the whole, or its bare name."""
    inside = given
    if isinstance(given, dict):
        inside = given.get("function")
        inside = given if inside is None else inside
    inside = _parsed(inside)
    if isinstance(inside, dict):
        return inside
    beside = {k: v for k, v in given.items() if k == "arguments"} if inside is not given else {}
    return {"name": str(inside), **beside}


def _parsed(value: Any) -> Any:
    """A value, or what it is as JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def whole(turn: Message) -> str:
    """The text of a message with its reasoning and, as JSON, its tool calls."""
    if not turn.get("tool_calls"):
        return thought(turn)
    return "\n".join(filter(None, [thought(turn), json.dumps(calls(turn), ensure_ascii=False)]))


def tools_text(row: Row) -> str:
    """Descriptions of tools as JSON text, complete; "" without any."""
    if "tools" not in row:
        return ""
    tools = _parsed(json.loads(row["tools"]))
    if not isinstance(tools, list):
        tools = [tools]
    described = []
    for tool in tools:
        function = _function(tool)
        given = _parsed(function.get("parameters"))
        about = given if isinstance(given, dict) else {}
        parameters = {"type": "object", "properties": {}, **about}
        whole = {"description": "", **function, "parameters": parameters}
        described.append({"type": "function", "function": whole})
    return json.dumps(described, ensure_ascii=False)


def alternating(
    messages: list[Message], *, answered: bool = True, apart: str = ""
) -> list[Message]:
    """Messages as a question and an answer in turn, perhaps after a system prompt.

    Neighbors of one side are joined. Where nothing is asked before the first answer, or nothing
    answers the last question, an empty turn stands in its place.

    Args:
        messages: The messages; what is neither system, assistant nor tool counts as the user's.
        answered: Whether the last turn is to be an answer, else a question.
        apart: A key that neighbors share, or they are not joined.
    """
    out: list[Message] = []
    for given in messages:
        turn = dict(given)
        if turn["role"] == "developer":
            turn["role"] = "system"
        if turn["role"] not in ("system", _LEARNED, "tool") or (
            turn["role"] == "system" and out and out[-1]["role"] != "system"
        ):
            turn["role"] = "user"
        if out and _of_side(out[-1], apart) == _of_side(turn, apart):
            out[-1] = _joined(out[-1], turn)
        else:
            out.append(turn)
    at = 1 if out and _is_system(out[0]) else 0
    if len(out) > at and _answers(out[at]):
        out.insert(at, {"role": "user", "content": ""})
    if len(out) == at:
        out.append({"role": "user", "content": ""})
    if _answers(out[-1]) != answered:
        out.append({"role": _LEARNED if answered else "user", "content": ""})
        if apart and any(_answers(turn) and apart not in turn for turn in out[:-1]):
            out[-1][apart] = True  # what no one said is not learned, where something is
    return out


def _answers(turn: Message) -> bool:
    return bool(turn["role"] == _LEARNED)


def _of_side(turn: Message, apart: str) -> tuple[bool, bool, Any]:
    return _answers(turn), _is_system(turn), turn.get(apart)


def _is_system(turn: Message) -> bool:
    return bool(turn["role"] == "system")


def _joined(first: Message, second: Message) -> Message:
    role = first["role"] if first["role"] == second["role"] else "user"
    apart = "\n</tool_response>\n<tool_response>\n" if role == "tool" else "\n\n"
    out = {**first, "role": role}
    if "reasoning_content" in second and not ("reasoning_content" in first or first["content"]):
        out["reasoning_content"] = second["reasoning_content"]
        out["content"] = second["content"]
    else:
        out["content"] = apart.join(filter(None, [first["content"], thought(second)]))
    if made := [*first.get("tool_calls", []), *second.get("tool_calls", [])]:
        out["tool_calls"] = made
    return out
