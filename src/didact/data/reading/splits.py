"""Splits of a data set by the names of files, of folders and of members of tar files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, TypeVar

T = TypeVar("T", list[str], Counter[str])

_TRAIN: Final = ("train", "training", "trn")
_WORD: Final = (
    r"(train(?:ing)?|trn|test(?:ing)?|tst|validat(?:ion|e)|valid|val|dev(?:el|elopment)?"
    r"|eval(?:uation)?|held[-_ ]?out|hold[-_ ]?out)(?:[-_ ]?(?:set|split|data))?"
)
# A split's name in the name of a file or of a folder around it: train-00000-of-00002, x_test.
_IN_NAME: Final = re.compile(rf"(?:^|[-_. ]){_WORD}(?=$|[-_. \d])")
# The same where it is all of the name, or its end: beside names of no split the word may be
# something else, as in dev-tools.
_AT_END: Final = re.compile(
    rf"(?:.*[-_. ])?{_WORD}(?:[-_. ]?\d+)?(?:[-_.]of[-_.]\d+)?(?:\.[a-z]+\d?)*"
)
_LONGEST: Final = 1024
_NOT_ALONE: Final = "valid"  # beside invalid, say


def split_of(name: str) -> str:
    """The split that a file's name, or a folder's around it, tells: "train", "test", …; or "".

    Args:
        name: The name, with `/` between folders.
    """
    for part in reversed(_parts(name)):
        told = _IN_NAME.search(part)
        if told is not None:
            return "train" if told[1] in _TRAIN else told[1]
    return ""


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a name; of one that is longer than any file's, as in a tar file, its end's."""
    return PurePosixPath(name[-_LONGEST:].lower()).parts


def held_splits(names: Sequence[str]) -> list[str]:
    """Of each file the split that is usually held out; "" where it has none, or all have one."""
    splits = [split_of(name) for name in names]
    named = ["" if split == "train" else split for split in splits]
    sure = [split if _surely(name) else "" for name, split in zip(names, named, strict=True)]
    return _held(named, sure, [""] * len(names), train="train" in splits, others="" in splits)


def _held(named: T, sure: T, none: T, *, train: bool, others: bool) -> T:
    """What is held out: beside train all other splits, beside names of none what surely is one."""
    return named if train else sure if others else none


def _surely(name: str) -> bool:
    """Whether a name, or a folder's around it, is a split's or ends with one."""
    matches = map(_AT_END.fullmatch, _parts(name))
    return any(told is not None and told[1] != _NOT_ALONE for told in matches)


@dataclass(slots=True)
class Splits:
    """Splits of names that come one after another, of which few are kept.

    Attributes:
        train: Names of train.
        others: Names of no split.
        named: Names of other splits, by split.
        sure: Those of them that are a split's without doubt, by split.
        first: The first of them.
    """

    train: int = 0
    others: int = 0
    named: Counter[str] = field(default_factory=Counter)
    sure: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, name: str) -> None:
        """Take a name."""
        split = split_of(name)
        if split in {"", "train"}:
            self.train += split == "train"
            self.others += split == ""
            return
        self.named[split] += 1
        self.sure[split] += _surely(name)
        self.first = self.first or name

    @property
    def held(self) -> Counter[str]:
        """Names of splits that are usually held out, by split, if there are others beside them."""
        train, others = self.train > 0, self.others > 0
        return _held(self.named, +self.sure, Counter(), train=train, others=others)
