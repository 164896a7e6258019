"""Rows as trainers take them. The text between the two marks stands in every training script.

It needs no didact and nothing but Python. It gives what `didact.data.rows.turns` reads, but leaves
reasoning, tools, tool calls and images where chat templates and trainers look for them.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from didact.core.nesting import DEEPEST, deeper_than
from didact.data.formats.preference import repeated
from didact.data.rows.json_text import MESSAGE_KEYS, there
from didact.data.rows.labels import NAMES as LABEL_NAMES
from didact.data.rows.labels import SPELLINGS as LABELS
from didact.data.rows.marks import MEDIA
from didact.data.rows.reasoning import (
    ROW_KEYS,
    in_text,
    is_trace,
    is_trace_part,
    trace_beside,
    trace_of,
    without_marked,
)
from didact.data.rows.turns import (
    CALL_ROLES,
    CALLS,
    CONTENT_TEXTS,
    RESULT_PARTS,
    ROLES,
    TOOLS,
    is_call_part,
    weight_beside,
)

COLUMNS: dict[str, str] = {}
NULLS_ARE_FILLED_IN = False
LEAVE_REASONING_OUT = False

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


def parsed(value: Any) -> Any:
    """A value, or what it is as JSON text; one that is nested too deep stays text."""
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return value if deeper_than(found, DEEPEST) else found


def spoken(row: Any, name: str) -> Any:
    """A prompt or an answer: a text, or messages, which may be written as JSON text."""
    value = column(row, name)
    found = parsed(value)
    listed = found if isinstance(found, list) else [found]
    told = [m for m in listed if isinstance(m, dict) and any(k in m for k in MESSAGE_KEYS)]
    whole = all(isinstance(m.get("role", m.get("from")), str) for m in told)
    return found if whole and 0 < len(told) == len(listed) else value


def media_of(holder: Any, kind: str) -> list[Any]:
    """Images, audio or video under keys of a row, of a message or of a part of one."""
    found = [holder[name] for name, of in MEDIA.items() if of == kind and there(holder.get(name))]
    values = [
        v for value in map(parsed, found) for v in (value if isinstance(value, list) else [value])
    ]
    return [v.get("url", v) if isinstance(v, dict) else v for v in values]


def content_of(value: Any, role: str = "") -> tuple[str, str, dict[str, list[Any]]]:
    """Text of a message, reasoning among its parts, and its images, audio and video by kind.

    `<image>` and the like stand in the text where one was.
    """
    pieces, traces, media = [], [], dict[str, list[Any]]()
    if not isinstance(value, list):
        return value or "", "", media
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if is_trace_part(part) and role == "assistant":
            traces.append(part)
            continue
        if is_call_part(part):
            continue
        texts = [part] if isinstance(part, str) else [part.get(k) for k in CONTENT_TEXTS]
        texts = [t["value"] if isinstance(t, dict) and "value" in t else t for t in texts]
        text = next((t for t in texts if isinstance(t, str)), None)
        inside = next((t for t in texts if isinstance(t, list)), None)  # of what a tool gave
        if is_trace_part(part):  # where no answer can take it
            text = text or trace_of(part) or None
        elif text is None and inside is not None:
            text = content_of(inside)[0]
        elif text is None and kind in RESULT_PARTS:
            text = json.dumps(part, ensure_ascii=False)
        if kind in MEDIA:
            text = f"<{MEDIA[kind].removesuffix('s')}>"
            found = media_of(part, MEDIA[kind]) or [part.get("url") or part.get("path") or ""]
            media.setdefault(MEDIA[kind], []).extend(found)
        pieces.append(f"<{kind if isinstance(kind, str) else 'part'}>" if text is None else text)
    return "\n".join(pieces), trace_of(traces), media


def without_nulls(value: Any) -> Any:
    """A value without the empty keys that Parquet fills in."""
    if isinstance(value, dict) and NULLS_ARE_FILLED_IN:  # maps: half the stack of comprehensions
        kept = {k: v for k, v in value.items() if v is not None}
        return dict(zip(kept, map(without_nulls, kept.values()), strict=True))
    return list(map(without_nulls, value)) if isinstance(value, list) else value


def calls_of(given: Any) -> Any:
    """The tool calls of a message: a list, or a text that is none."""
    content = given.get(COLUMNS.get("content", "content"))
    parts = content if isinstance(content, list) else []
    parts = [part for part in parts if is_call_part(part)]
    calls = parsed(next(filter(there, map(given.get, CALLS)), None))
    if parts and not calls:  # as Anthropic has calls
        calls = [
            {
                **({"id": part["id"]} if isinstance(part.get("id"), str) else {}),
                "type": "function",
                "function": {
                    "name": part.get("name"),
                    "arguments": part.get("input", part.get("arguments")),
                },
            }
            for part in parts
        ]
    if isinstance(calls, dict):
        calls = [{"type": "function", "function": calls}]
    return without_nulls(calls)


def weight_of(given: Any) -> float:
    """How much an answer is learned, unless a trainer learns them all alike."""
    value = weight_beside(given, COLUMNS)[1]
    return 1.0 if value is None else float(value)


def message(given: Any) -> dict[str, Any]:
    """A message as chat templates take it: role, content, reasoning and tool calls if any."""
    given = parsed(given)
    name = given.get(COLUMNS.get("role", "role"))
    name = given.get("from") if name is None else name
    value = given.get(COLUMNS.get("content", "content"))
    value = given.get("value") if value is None else value
    role = role_of(name)
    text, trace, media = content_of(value, role)
    out = {"role": "reasoning" if role == "assistant" and is_trace(given) else role}
    out["content"] = text
    if out["role"] == "assistant" and (trace := trace_beside(given, COLUMNS) or trace):
        out["reasoning_content"] = trace
    if out["role"] in ("assistant", "reasoning") and weight_of(given) != 1:
        out["weight"] = weight_of(given)
    calls = calls_of(given)
    called = parsed(text) if str(name).lower() in CALL_ROLES else None  # as ShareGPT has calls
    if isinstance(called, dict) and "name" in called:
        calls, out["content"] = [{"type": "function", "function": called}], ""
    if isinstance(calls, list):
        out["tool_calls"] = calls
    elif isinstance(calls, str):
        out["content"] = "\n".join(filter(None, [text, calls]))
    for kind in ("images", "audio", "video"):
        if found := [*media.get(kind, []), *media_of(given, kind)]:
            out[kind] = found
    for key in ("name", "tool_call_id"):
        if isinstance(given.get(key), str):
            out[key] = given[key]
    return out


def joined(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages, where those that are a reasoning trace become part of the answer behind them."""
    out: list[dict[str, Any]] = []
    for turn in turns:
        before = {}
        if out and out[-1]["role"] == "reasoning" and turn["role"] == "assistant":
            before = out.pop()
            traces = [before["content"], turn.pop("reasoning_content", "")]
            before["reasoning_content"] = "\n".join(filter(None, traces))
        out.append(before | turn)
    for turn in out:
        if turn["role"] == "reasoning":  # no answer follows
            turn.update(role="assistant", content="", reasoning_content=turn["content"])
        if LEAVE_REASONING_OUT and turn["role"] == "assistant":
            turn.pop("reasoning_content", None)
            turn["content"] = without_marked(turn["content"])
    return out


def side(value: Any, role: str) -> list[dict[str, Any]]:
    """A prompt or an answer, which may be text, as messages."""
    if isinstance(value, str):
        return joined([{"role": role, "content": value}])
    return joined([message(m) for m in ([value] if isinstance(value, dict) else value)])


def shown(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of a prompt, whose answers are not learned."""
    return [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in turns]


def chat(row: Any) -> list[dict[str, Any]] | None:
    """The messages of a row."""
    value = column(row, "messages")
    value = row.get("conversations") if value is None else value
    return None if value is None else joined([message(m) for m in parsed(value)])


def opening(row: Any) -> list[dict[str, Any]]:
    """The system prompt that stands beside the messages, and earlier exchanges."""
    system, turns = column(row, "system"), []
    if system:
        turns.append({"role": "system", "content": system})
    history = parsed(column(row, "history")) if there(column(row, "history")) else []
    if history and all(isinstance(before, dict) for before in history):
        return turns + side(history, "user")
    for question, answer in history:
        turns += side(question, "user") + side(answer, "assistant")
    return turns


def question(row: Any) -> str:
    """An instruction with its input."""
    parts = [column(row, "instruction"), column(row, "input")]
    return "\n".join(p for p in parts if p)


def plain(row: Any, *values: Any) -> bool:
    """Whether a row is texts alone, which trainers take without a chat template."""
    return all(isinstance(v, str) for v in values) and not (opening(row) or tools_of(row))


def last_answer(turns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What stands before the last answer of a chat, and that answer; what follows is counted."""
    at = max((i for i, t in enumerate(turns) if t["role"] == "assistant"), default=None)
    if at is None:
        FOUND["no answer"] += 1
        return turns, [{"role": "assistant", "content": ""}]
    FOUND["turns behind the answer"] += at < len(turns) - 1
    return turns[:at], turns[at : at + 1]


def parted(
    prompt: list[dict[str, Any]],
    chosen: list[dict[str, Any]],
    rejected: list[dict[str, Any]],
) -> dict[str, Any]:
    """A pair, whose sides may repeat the prompt, or begin with one where it has none."""
    keys = ("role", "content", "reasoning_content", "tool_calls")
    asked, *both = [
        [tuple(map(turn.get, keys)) for turn in turns] for turns in (prompt, chosen, rejected)
    ]
    whole, of_chosen, of_rejected = repeated(asked, *both)
    prompt = chosen[:of_chosen] if whole else prompt
    return {"prompt": prompt, "chosen": chosen[of_chosen:], "rejected": rejected[of_rejected:]}


def tools_of(row: Any) -> Any:
    """The tools that stand beside the messages; None without any."""
    names = ("tools",) if "tools" in COLUMNS else TOOLS
    return parsed(next(filter(there, (column(row, name) for name in names)), None))


def label_of(row: Any) -> bool:
    """Whether a labelled answer is good."""
    values = (column(row, "label"), *map(row.get, LABEL_NAMES))
    value = next((value for value in values if value is not None), None)
    return LABELS[str(value).strip().lower()]


def traced(row: Any, read: dict[str, Any]) -> None:
    """Give the last answers of a row as it was read the reasoning that stands beside them."""
    for name in ("messages", "completion", "chosen", "rejected"):
        answer, own = read.get(name), COLUMNS.get("reasoning")
        before = f"{name}_" if name in ("chosen", "rejected") else ""
        if answer is None or own == "-" or LEAVE_REASONING_OUT:
            continue
        found = [column(row, "reasoning") if own and not before else None]
        found += [row.get(before + key) for key in ROW_KEYS]
        trace = next(filter(None, map(trace_of, found)), "")
        turns = side(answer, "assistant") if isinstance(answer, str) else answer
        last = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), None)
        if not trace or not last or "reasoning_content" in last or in_text(last["content"]):
            continue
        if trace not in last["content"]:
            last["reasoning_content"] = trace
            read[name] = turns


def complete(row: Any, read: dict[str, Any]) -> dict[str, Any]:
    """A row as it was read with its tools and images, counted in FOUND."""
    traced(row, read)
    tools = tools_of(row)
    media = {kind: media_of(row, kind) for kind in ("images", "audio", "video")}
    for name in ("completion", "chosen", "rejected"):
        if LEAVE_REASONING_OUT and isinstance(read.get(name), str):
            read[name] = without_marked(read[name])
    chats = {name: value for name, value in read.items() if isinstance(value, list)}
    weights = [t.get("weight", 1) for name in chats if name != "prompt" for t in chats[name]]
    turns = [turn for value in chats.values() for turn in value]
    for turn in turns:
        turn.pop("weight", None)
        for kind in media:
            media[kind] += turn.pop(kind, [])
    images = [i for i in media["images"] if i]
    marks = {
        "tools": bool(tools),
        "tool calls": any("tool_calls" in turn for turn in turns),
        "reasoning": any("reasoning_content" in turn for turn in turns),
        "images": bool(media["images"]),
        "audio or video": bool(media["audio"] or media["video"]),
        "untrained answers": 0 in weights,
        "weighted answers": any(weight not in (0, 1) for weight in weights),
    }
    FOUND.update(name for name, there in marks.items() if there)
    if tools:
        read["tools"] = json.dumps(without_nulls(tools), ensure_ascii=False)
    if images:
        read["images"] = images
    return read
