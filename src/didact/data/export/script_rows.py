"""Rows as trainers take them. The text between the two marks stands in every training script.

It needs no didact and nothing but Python. It gives what `didact.data.rows.turns` reads, but leaves
reasoning, tools, tool calls and images where chat templates and trainers look for them.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from didact.data.rows.turns import ROLES

COLUMNS: dict[str, str] = {}
NULLS_ARE_FILLED_IN = False

# -- from here: what stands in scripts -------------------------------------------------------------

FOUND: Counter[str] = Counter()  # rows with what not every model or trainer takes


def column(row: Any, name: str) -> Any:
    """A value of a row; dots in a column's name reach into nested objects."""
    name = COLUMNS.get(name, name)
    if name in row:
        return row[name]
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def role_of(given: Any) -> Any:
    """A role by the name that chat templates know."""
    return ROLES.get(given) or ROLES.get(given.lower(), given)


def content_of(value: Any) -> tuple[str, list[Any]]:
    """The text of a message, and its images; where one stands the text has `<image>`."""
    if not isinstance(value, list):
        return value or "", []
    pieces, images = [], []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        texts = [part] if isinstance(part, str) else [part.get(k) for k in _TEXTS]
        text = next((t for t in texts if isinstance(t, str)), None)
        if kind in ("image", "image_url", "input_image"):
            text = "<image>"
            found = part.get("image_url") or part.get("image") or part.get("url")
            images.append(found.get("url") if isinstance(found, dict) else found)
        if kind not in REASONING:
            pieces.append(f"<{kind or 'part'}>" if text is None else text)
    return "\n".join(pieces), images


_TEXTS = ("text", "value", "content")
REASONING = ("reasoning_content", "reasoning", "thinking")


def reasoning_of(given: Any, value: Any) -> str:
    """What a message thinks before it says its content."""
    for name in REASONING:
        if isinstance(given.get(name), str) and given[name].strip():
            return str(given[name])
    parts = [p for p in value if isinstance(p, dict)] if isinstance(value, list) else []
    found = [p.get(k) for p in parts if p.get("type") in REASONING for k in (*REASONING, *_TEXTS)]
    return "\n".join(text for text in found if isinstance(text, str))


def without_nulls(value: Any) -> Any:
    """A value without the empty keys that Parquet fills in."""
    if isinstance(value, dict) and NULLS_ARE_FILLED_IN:
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def calls_of(given: Any) -> list[Any]:
    """The tool calls of a message."""
    calls = given.get("tool_calls") or given.get("function_call")
    if isinstance(calls, dict):
        calls = [{"type": "function", "function": calls}]
    return without_nulls(calls) if calls else []


def message(given: Any) -> dict[str, Any]:
    """A message as chat templates take it: role, content, reasoning and tool calls if any."""
    role = given.get(COLUMNS.get("role", "role"))
    role = given.get("from") if role is None else role
    value = given.get(COLUMNS.get("content", "content"))
    value = given.get("value") if value is None else value
    text, images = content_of(value)
    out = {"role": role_of(role), "content": text}
    reasoning, calls = reasoning_of(given, value), calls_of(given)
    if role == "function_call" and not calls:  # ShareGPT's: the content is the call
        try:
            called = json.loads(text)
        except ValueError:
            called = None
        if isinstance(called, dict) and "name" in called:
            calls, out["content"] = [{"type": "function", "function": called}], ""
    if reasoning:
        out["reasoning_content"] = reasoning
    if calls:
        out["tool_calls"] = calls
    if images:
        out["images"] = images
    for name in ("name", "tool_call_id"):
        if isinstance(given.get(name), str):
            out[name] = given[name]
    if out["role"] == "assistant" and any(given.get(k) in (0, False) for k in _WEIGHTS):
        out["unweighted"] = True
    return out


_WEIGHTS = ("weight", "loss_weight", "train", "training")


def side(value: Any, role: str) -> list[dict[str, Any]]:
    """A prompt or an answer, which may be text, as messages."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [message(m) for m in ([value] if isinstance(value, dict) else value)]


def chat(row: Any) -> list[dict[str, Any]] | None:
    """The messages of a row."""
    value = column(row, "messages")
    value = row.get("conversations") if value is None else value
    value = json.loads(value) if isinstance(value, str) else value
    return None if value is None else [message(m) for m in value]


def opening(row: Any) -> list[dict[str, Any]]:
    """The system prompt that stands beside the messages, and earlier exchanges."""
    system, turns = column(row, "system"), []
    if system:
        turns.append({"role": "system", "content": system})
    for question, answer in column(row, "history") or []:
        turns += side(question, "user") + side(answer, "assistant")
    return turns


def question(row: Any) -> str:
    """An instruction with its input."""
    parts = [column(row, "instruction"), column(row, "input")]
    return "\n".join(p for p in parts if p)


def plain(row: Any, *values: Any) -> bool:
    """Whether a row is texts alone, which trainers take without a chat template."""
    return all(isinstance(v, str) for v in values) and not (opening(row) or column(row, "tools"))


def label_of(row: Any) -> bool:
    """Whether a labelled answer is good: true or false, 1 or 0, also as text."""
    value = column(row, "label")
    value = row.get("kto_tag") if value is None else value
    return value.strip().lower() in ("true", "1") if isinstance(value, str) else bool(value)


def complete(row: Any, read: dict[str, Any]) -> dict[str, Any]:
    """A row as it was read with its tools and images, counted in FOUND."""
    tools = column(row, "tools")
    tools = json.loads(tools) if isinstance(tools, str) and tools.strip()[:1] in "[{" else tools
    images = row.get("images") or row.get("image") or []
    images = list(images) if isinstance(images, list) else [images]
    turns = [t for value in read.values() if isinstance(value, list) for t in value]
    for turn in turns:
        images += turn.pop("images", [])
    marks = {
        "tools": bool(tools),
        "tool calls": any("tool_calls" in turn for turn in turns),
        "reasoning": any("reasoning_content" in turn for turn in turns),
        "images": bool(images) or any("<image>" in turn["content"] for turn in turns),
        "untrained answers": any(turn.pop("unweighted", False) for turn in turns),
    }
    FOUND.update(name for name, there in marks.items() if there)
    if tools:
        read["tools"] = json.dumps(without_nulls(tools), ensure_ascii=False)
    if images:
        read["images"] = images
    return read
