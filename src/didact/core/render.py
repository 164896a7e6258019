"""Text columns of a batch, rendered from the turns of its samples by named templates.

A sample is stored as a list of turns `{part, role, content, weight}`. `part` tells the branches of
a preference pair apart; `weight` is 1 on what a trainer learns and 0 on what it is only shown.
A turn of the role `REASONING` is what an answer's reasoning trace says; the turn behind it answers.
Everything derived (`text`, `prompt`, `first_message`, `completion`, …) is computed from the turns
when it is read, so that no content is stored twice.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SHARED: Final = 0
CHOSEN: Final = 1
REJECTED: Final = 2
REASONING: Final = "reasoning"  # the role of a reasoning trace, which the answer behind it follows
# keys of a message that hold such a trace, in data and in chat templates, the first that says any
REASONING_KEYS: Final = ("reasoning_content", "reasoning", "thinking")
THINK: Final = ("<think>\n", "\n</think>\n\n")  # around a trace that stands in an answer's text

TURN: Final = pa.struct(
    [
        ("part", pa.int8()),
        ("role", pa.string()),
        ("content", pa.string()),
        ("weight", pa.float32()),
    ]
)
TURNS: Final = pa.list_(TURN)

Template = Literal["plain", "roles", "chatml"]

# role → what stands before and after a turn; then what stands between two turns
AROUND: Final[dict[str, tuple[str, str, str, str]]] = {
    "plain": ("", "", "", "\n"),
    "roles": ("", ": ", "", "\n"),
    "chatml": ("<|im_start|>", "\n", "<|im_end|>", "\n"),
}
TEMPLATES: Final = tuple(AROUND)
DERIVED: Final = (
    "text", "prompt", "first_message", "completion", "chosen", "rejected", "messages",
)  # fmt: skip


def derive(turns: pa.ListArray, column: str, template: str, *, chat: bool) -> pa.Array:
    """One derived column of a batch.

    Args:
        turns: The stored turns, `n` lists.
        column: One of `DERIVED`. `text` is every turn; `completion` the turns a trainer learns
            (weight > 0; the chosen branch of a pair); `prompt` the shared turns it does not learn;
            `first_message` the first of the shared turns, whatever its role and weight; `chosen`
            and `rejected` the branches of a pair; `messages` the shared turns as
            `{role, content, weight}`.
        template: One of `TEMPLATES`: `plain` joins contents by a newline, `roles` writes
            "role: content", `chatml` the ChatML marks, with reasoning in `<think>` in its answer.
        chat: False for raw text, which has no roles to write.

    Returns:
        large_string `(n,)`, or a list of structs for `messages`.
    """
    turn = turns.flatten()
    if column == "messages":
        shared = pc.equal(turn.field("part"), SHARED)
        picked = turn.filter(shared)
        fields = ["role", "content", "weight"]
        messages = pa.StructArray.from_arrays([picked.field(f) for f in fields], fields)
        return pa.ListArray.from_arrays(_offsets(turns, shared), messages)
    before, after_role, after, between = AROUND[template if chat else "plain"]
    pieces = turn.field("content")
    if before or after_role or after:
        opening = pc.binary_join_element_wise(before, turn.field("role"), after_role, "")
        closing: Any = pa.scalar(after)
        if template == "chatml":
            opening, closing = _thinking(turn.field("role"), opening, after)
        pieces = pc.binary_join_element_wise(opening, pieces, closing, "")
    wanted = None
    if column == "first_message":
        wanted = _first(turns, pc.equal(turn.field("part"), SHARED))
    elif column != "text":
        part, learned = turn.field("part"), pc.greater(turn.field("weight"), 0)
        wanted = {
            "prompt": pc.and_(pc.equal(part, SHARED), pc.invert(learned)),
            "completion": pc.and_(learned, pc.not_equal(part, REJECTED)),
            "chosen": pc.equal(part, CHOSEN),
            "rejected": pc.equal(part, REJECTED),
        }[column]
    if wanted is not None:
        pieces = pieces.filter(wanted)
    lists = pa.ListArray.from_arrays(_offsets(turns, wanted), pieces)
    return pc.binary_join(lists, between).cast(pa.large_string())  # the bytes are not copied


def around(role: str, template: Template, *, behind: str = "") -> tuple[str, str]:
    """What stands before and after the content of a turn.

    Args:
        role: Its role.
        template: The template.
        behind: The role of the turn before it: in ChatML reasoning goes into its answer's turn.
    """
    before, after_role, after, between = AROUND[template]
    header = f"{before}{role}{after_role}" if before or after_role else ""
    if template == "chatml" and role == REASONING:
        return f"{before}assistant{after_role}{THINK[0]}", THINK[1].removesuffix(between)
    return ("" if template == "chatml" and behind == REASONING else header), after


def _thinking(roles: pa.StringArray, opening: pa.StringArray, after: str) -> tuple[Any, Any]:
    """What stands before and after each turn in ChatML, where some are reasoning."""
    reasoning = pc.equal(roles, REASONING)
    if not pc.any(reasoning).as_py():
        return opening, pa.scalar(after)
    behind = pa.concat_arrays([pa.array([False]), reasoning[:-1]])
    before, close = around(REASONING, "chatml")
    opening = pc.if_else(reasoning, before, pc.if_else(behind, "", opening))
    return opening, pc.if_else(reasoning, close, after)


def _first(turns: pa.ListArray, wanted: pa.BooleanArray) -> pa.BooleanArray:
    """True on the first of the wanted turns of each sample."""
    mask: npt.NDArray[np.bool_] = wanted.to_numpy(zero_copy_only=False)
    counts = np.diff(turns.offsets.to_numpy())
    sample = np.repeat(np.arange(len(turns)), counts)[mask]
    first = np.zeros(len(mask), np.bool_)
    first[np.flatnonzero(mask)[np.diff(sample, prepend=-1) > 0]] = True
    return pa.array(first)


def _offsets(turns: pa.ListArray, wanted: pa.BooleanArray | None) -> pa.Int32Array:
    """List offsets into the flattened turns, or into what is left of them by a mask."""
    offsets: npt.NDArray[np.int32] = turns.offsets.to_numpy()
    offsets = offsets - offsets[0]
    if wanted is not None:
        mask: npt.NDArray[np.bool_] = wanted.to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(mask)])[offsets]
    return pa.array(offsets, pa.int32())
