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
from didact.data.formats.preference import shared_words
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
        `untrained answers`, `weighted answers`.

    Raises:
        DataError: A row cannot be shaped; told by its place in the order.
    """
    read, found = row_reader(data)
    for number, row in enumerate(data.rows(), 1):
        try:
            found.update(also(shape(read(row))))
        except DataError as error:
            raise DataError(f"row {number} of the order: {error}") from error
    return found


def write_shaped(
    path: Path, rows: Iterable[Row], data: OrderedDataSet, shape: Callable[[Row], Row]
) -> None:
    """Write rows as JSON lines in the trainer's shape."""
    read, _ = row_reader(data)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(_line(shape(read(row))) for row in rows)


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row) + b"\n"
    except TypeError:  # integers beyond 64 bits, half surrogate pairs
        return json.dumps(row).encode() + b"\n"


def said(found: Counter[str], trainer: str, *, images: str = "images") -> Iterator[str]:
    """Notes on what rows hold that the trainer takes in another way, or not at all."""
    if n := found["images"]:
        yield counted(n, "row holds", "rows hold") + (
            f" images: they are in the column {images!r}, for a model that sees"
            if images
            else " images, which are left out; <image> stands in their place"
        )
    if n := found["audio or video"]:
        holds = counted(n, "row holds", "rows hold")
        yield f"{holds} audio or video, which are left out; a mark stands in their place"
    if n := found["untrained answers"]:
        marks = counted(n, "row marks", "rows mark")
        yield f"{marks} answers as not to be trained; {trainer} trains them all"
    if n := found["weighted answers"]:
        weigh = counted(n, "row weighs", "rows weigh")
        yield f"{weigh} answers more or less than 1; {trainer} weighs them all the same"
    if n := found["reasoning"]:
        holds = counted(n, "row holds", "rows hold")
        yield f"{holds} reasoning, which stands in the text between <think> and </think>"


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
    chosen, rejected = row["chosen"], row["rejected"]
    if row.get("prompt") is not None:
        shared = _side(row["prompt"], "user")
    elif isinstance(chosen, str):
        cut = shared_words(chosen, rejected)
        shared = _side(chosen[:cut], "user") if cut else []
        chosen, rejected = chosen[cut:], rejected[cut:]
    else:
        n = _shared_turns(chosen, rejected)
        shared, chosen, rejected = chosen[:n], chosen[n:], rejected[n:]
    answers = _side(chosen, _LEARNED), _side(rejected, _LEARNED)
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        if len(answer) != 1:
            raise DataError(
                f"{name} has {len(answer)} turns of its own; {trainer} takes one answer a side: "
                "use trl"
            )
    return shared, answers[0][0], answers[1][0]


def _side(value: Any, role: str) -> list[Message]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> int:
    """How many turns both sides begin with; equal last answers are answers."""
    most = min(len(chosen), len(rejected)) - 1
    same = 0
    while same < most and chosen[same] == rejected[same]:
        same += 1
    return same


# -- messages as texts -----------------------------------------------------------------------------


def thought(turn: Message) -> str:
    """The text of a message with its reasoning before it."""
    trace, text = turn.get("reasoning_content"), str(turn["content"])
    return THINK[0] + trace + THINK[1] + text if trace else text


def calls(turn: Message) -> list[dict[str, Any]]:
    """The tool calls of a message as names and arguments."""
    out = []
    for call in turn.get("tool_calls", []):
        function = call.get("function", call) if isinstance(call, dict) else {"name": str(call)}
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                arguments = {"arguments": arguments}
        out.append({"name": str(function.get("name", "")), "arguments": arguments})
    return out


def whole(turn: Message) -> str:
    """The text of a message with its reasoning and, as JSON, its tool calls."""
    if not turn.get("tool_calls"):
        return thought(turn)
    return "\n".join(filter(None, [thought(turn), json.dumps(calls(turn), ensure_ascii=False)]))


def tools_text(row: Row) -> str:
    """Descriptions of tools as JSON text, complete; "" without any."""
    if "tools" not in row:
        return ""
    tools = json.loads(row["tools"])
    if not isinstance(tools, list):
        tools = [tools]
    described = []
    for tool in tools:
        function: Row = {"name": str(tool)}
        if isinstance(tool, dict):
            function = tool.get("function", tool)
        parameters = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
        whole = {"description": "", **function, "parameters": parameters}
        described.append({"type": "function", "function": whole})
    return json.dumps(described, ensure_ascii=False)


def alternating(messages: list[Message], *, answered: bool = True) -> list[Message]:
    """Messages as a question and an answer in turn, perhaps after a system prompt.

    Neighbors of one side are joined. Where nothing is asked before the first answer, or nothing
    answers the last question, an empty turn stands in its place.

    Args:
        messages: The messages; what is neither system, assistant nor tool counts as the user's.
        answered: Whether the last turn is to be an answer, else a question.
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
        if out and _answers(out[-1]) == _answers(turn) and _is_system(out[-1]) == _is_system(turn):
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
    return out


def _answers(turn: Message) -> bool:
    return bool(turn["role"] == _LEARNED)


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
