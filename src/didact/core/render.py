"""From turns to text: named templates, as Arrow kernels over whole batches.

A sample is stored as a list of turns `{part, role, content, weight}`. `part` tells the branches of
a preference pair apart; `weight` is 1 on what a trainer learns and 0 on what it is only shown.
Everything derived (`text`, `prompt`, `completion`, `chosen`, `rejected`, `messages`) is computed
from the turns when it is read, so that no content is stored twice.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SHARED: Final = 0
CHOSEN: Final = 1
REJECTED: Final = 2

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
_AROUND: Final[dict[str, tuple[str, str, str, str]]] = {
    "plain": ("", "", "", "\n"),
    "roles": ("", ": ", "", "\n"),
    "chatml": ("<|im_start|>", "\n", "<|im_end|>", "\n"),
}
TEMPLATES: Final = tuple(_AROUND)
DERIVED: Final = ("text", "prompt", "completion", "chosen", "rejected", "messages")


def derive(turns: pa.ListArray, column: str, template: str, *, chat: bool) -> pa.Array:
    """One derived column of a batch.

    Args:
        turns: The stored turns, `n` lists.
        column: One of `DERIVED`. `text` is every turn; `completion` the turns a trainer learns
            (weight > 0; the chosen branch of a pair); `prompt` the shared turns it does not learn; `chosen` and `rejected` the
            branches of a pair; `messages` the shared turns as `{role, content, weight}`.
        template: One of `TEMPLATES`: `plain` joins contents by a newline, `roles` writes
            "role: content", `chatml` the ChatML marks.
        chat: False for raw text, which has no roles to write.

    Returns:
        large_string `(n,)`, or a list of structs for `messages`.
    """
    turn = turns.flatten()
    if column == "messages":
        kept, offsets = _keep(turns, pc.equal(turn.field("part"), SHARED))
        picked = turn.filter(kept)
        fields = ["role", "content", "weight"]
        messages = pa.StructArray.from_arrays([picked.field(f) for f in fields], fields)
        return pa.ListArray.from_arrays(offsets, messages)
    before, after_role, after, between = _AROUND[template if chat else "plain"]
    pieces = turn.field("content")
    if before or after_role or after:
        pieces = pc.binary_join_element_wise(
            pa.scalar(before),
            turn.field("role"),
            pa.scalar(after_role),
            pieces,
            pa.scalar(after),
            "",
        )
    if column == "text":
        offsets = pa.array(turns.offsets.to_numpy() - turns.offsets[0].as_py(), pa.int32())
    else:
        part, learned = turn.field("part"), pc.greater(turn.field("weight"), 0)
        wanted = {
            "prompt": pc.and_(pc.equal(part, SHARED), pc.invert(learned)),
            "completion": pc.and_(learned, pc.not_equal(part, REJECTED)),
            "chosen": pc.equal(part, CHOSEN),
            "rejected": pc.equal(part, REJECTED),
        }[column]
        wanted, offsets = _keep(turns, wanted)
        pieces = pieces.filter(wanted)
    lists = pa.ListArray.from_arrays(offsets, pieces)
    return pc.binary_join(lists, between).cast(pa.large_string())  # the bytes are not copied


def _keep(turns: pa.ListArray, wanted: pa.BooleanArray) -> tuple[pa.BooleanArray, pa.Array]:
    """The mask, and the list offsets that are left once it is applied."""
    mask: npt.NDArray[np.bool_] = wanted.to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(mask)])
    starts = turns.offsets.to_numpy() - turns.offsets[0].as_py()
    return wanted, pa.array(before[starts], pa.int32())
