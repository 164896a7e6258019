"""The options of a multiple choice: found in a row, checked, and put in the answer's place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.core.render import REASONING, REJECTED, SHARED
from didact.evaluation.settings import ChoicesFrom

COLUMN: Final = "choices"
SURE: Final = ("answer", "answerKey", "answer_key")
KEYS: Final = (*SURE, "label", "gold", "target")
MOST_LABELS: Final = 1000
# "(A) museum" or "A) museum" or "A. museum" at the beginning of a line.
_LETTERED: Final = re.compile(r"^[ \t]*(\(?)([A-Z])(?:(\))|\.)[ \t]+\S", re.MULTILINE)
_ANSWER_LETTER: Final = re.compile(r"\(?([A-Z])\)?\.?")

Turn = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a sample.

    Attributes:
        texts: The options as answers, two or more, no two alike.
        right: Index of the right one.
    """

    texts: tuple[str, ...]
    right: int


@dataclass(frozen=True, slots=True)
class Survey:
    """The options of a file, read before any model is.

    Attributes:
        n: Samples.
        labels: The distinct answers, sorted, where the options are `labels`; else ().
        questions: Number of samples with options.
        options: Number of all their options.
    """

    n: int
    labels: tuple[str, ...]
    questions: int
    options: int


def last_answer(turns: Sequence[Turn]) -> str | None:
    """What the last turn that a trainer learns says; None where there is no such turn."""
    at = _answer_at(turns)
    return None if at is None else str(turns[at]["content"])


def with_answer(turns: Sequence[Turn], text: str) -> list[Turn]:
    """The sample up to its last answer, with another one in its place; nothing else is learnt.

    The reasoning of that answer goes with it: it would give the answer away.
    """
    at = _answer_at(turns)
    before = [{**turn, "weight": 0.0} for turn in _shown(_asked(turns, at))]
    role = "assistant" if at is None else turns[at]["role"]
    return [*before, {"part": SHARED, "role": role, "content": text, "weight": 1.0}]


def _asked(turns: Sequence[Turn], at: int | None) -> Sequence[Turn]:
    """The turns before an answer and its reasoning."""
    if at and turns[at - 1]["role"] == REASONING and turns[at]["role"] != REASONING:
        return turns[: at - 1]
    return turns[:at]


def _shown(turns: Sequence[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn["part"] != REJECTED]


def _answer_at(turns: Sequence[Turn]) -> int | None:
    learnt = [
        i for i, turn in enumerate(turns)
        if turn["weight"] and turn["content"].strip() and turn["part"] != REJECTED
    ]  # fmt: skip
    return learnt[-1] if learnt else None


def survey(pool: Pool, rows: np.ndarray[Any, Any], how: ChoicesFrom | None, file: str) -> Survey:
    """Read the options of a file and check every one of them.

    Args:
        pool: The file's samples.
        rows: int64 `(n,)`: the rows to evaluate.
        how: Where options come from.
        file: The file's name, for messages.

    Raises:
        DataError: A row has no options where every one needs them, has equal ones, or its right
            answer is not among them; or no row has any.

    **Cost:** one pass over the file; next to nothing where there can be no options.
    """
    if pool.kind == "text" and how is not None:
        raise DataError(
            f"{file}: holds plain text, which has no answers to choose from; choices={how} needs "
            "chats: leave it out, or name the columns of prompt and completion (--data)"
        )
    labels = _labels(pool, rows, file) if how == "labels" else ()
    questions = options = 0
    for start in range(0, len(rows), 4096):
        for found in options_of(pool, rows[start : start + 4096], how, labels, file):
            questions += found is not None
            options += 0 if found is None else len(found.texts)
    if how is not None and not questions:
        raise DataError(
            f"{file}: no row has options in its prompt; choices=letters expects lines that begin "
            "with (A), (B), … and an answer that is one of the letters"
        )
    return Survey(len(rows), labels, questions, options)


def options_of(
    pool: Pool,
    rows: np.ndarray[Any, Any],
    how: ChoicesFrom | None,
    labels: Sequence[str],
    file: str,
) -> list[Options | None]:
    """The options of some rows; None for a sample that is no multiple choice.

    Raises:
        DataError: See `survey`.
    """
    if pool.kind == "text":
        return [None] * len(rows)
    if how in {None, "column"}:
        records = list(pool.records(rows))
        if how is None and not any(b'"choices"' in record for record in records):
            return [None] * len(rows)
    all_turns = pool.read(rows, ["turns"]).column("turns").to_pylist()
    out: list[Options | None] = []
    for i, (row, turns) in enumerate(zip(rows.tolist(), all_turns, strict=True)):
        place = f"{file}: row {row + 1}"
        if how == "labels":
            answer = last_answer(turns)
            out.append(Options(tuple(labels), labels.index((answer or "").strip())))
        elif how == "letters":
            out.append(lettered(turns, place))
        else:
            out.append(of_column(orjson.loads(records[i]), turns, place, needed=how == "column"))
    return out


def _labels(pool: Pool, rows: np.ndarray[Any, Any], file: str) -> tuple[str, ...]:
    """The distinct answers of the rows, sorted."""
    answers: Counter[str] = Counter()
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        found = pool.read(part, ["turns"]).column("turns").to_pylist()
        for row, turns in zip(part.tolist(), found, strict=True):
            answer = last_answer(turns)
            if answer is None:
                raise DataError(
                    f"{file}: row {row + 1}: has no answer; choices=labels needs one in every row: "
                    "remove the row, or choose another form"
                )
            answers[answer.strip()] += 1
    if not 2 <= len(answers) <= MOST_LABELS or (len(answers) == len(rows) > 2):
        raise DataError(
            f"{file}: {len(answers)} distinct answers in {len(rows)} rows; choices=labels expects "
            f"2 to {MOST_LABELS} answers that repeat: leave it out, so that answers are judged by "
            "their bits per byte"
        )
    return tuple(sorted(answers))


def lettered(turns: Sequence[Turn], place: str) -> Options | None:
    """Options that stand in the prompt behind letters, (A), (B), …; the answer is a letter.

    The options are then answers in the form of the right one: "(E)", "E", "E.". Of several lists in
    a prompt, as in one with examples, the last one counts.

    Args:
        turns: The turns of the sample.
        place: File and row, for messages.

    Returns:
        None where the prompt has no such list or the answer is no letter.

    Raises:
        DataError: The answer is a letter that is not in the list.
    """
    answer = (last_answer(turns) or "").strip()
    given = _ANSWER_LETTER.fullmatch(answer)
    at = _answer_at(turns)
    prompt = "\n".join(turn["content"] for turn in _asked(turns, at))
    letters: list[str] = []
    for found in _LETTERED.finditer(prompt):
        letter = found[2]
        if letter == "A":
            letters = ["A"]
        elif letters and ord(letter) == ord(letters[-1]) + 1:
            letters.append(letter)
    if given is None or len(letters) < 2:
        return None
    if given[1] not in letters:
        raise DataError(
            f"{place}: the answer is {answer!r}, and the prompt has the options "
            f"{letters[0]} to {letters[-1]}; expected one of them: correct the row, or remove it"
        )
    texts = tuple(answer.replace(given[1], letter) for letter in letters)
    return Options(texts, letters.index(given[1]))


def of_column(
    record: Mapping[str, Any], turns: Sequence[Turn], place: str, *, needed: bool
) -> Options | None:
    """Options of a row's own column `choices`: texts, or `{"text": […], "label": […]}`.

    The right one is the sample's answer where that is an option, else what the row says under
    `answer`, `answerKey`, `label`, `gold` or `target`: a name of `label`, the option's text, a
    letter from A, or a number from 0.

    Args:
        record: The user's own row.
        turns: The turns of the sample.
        place: File and row, for messages.
        needed: Whether a row without the column is an error.
    """
    value = record.get(COLUMN)
    if value is None:
        if needed:
            raise DataError(
                f"{place}: has no column {COLUMN!r}; expected a list of options: add it, or leave "
                "choices out, so that rows without options are judged by their bits per byte"
            )
        return None
    texts, names = _texts(value, place)
    answer = (last_answer(turns) or "").strip()
    if answer in texts:
        for key in SURE:
            others = _readings(record.get(key), texts, names)
            if others and texts.index(answer) not in others:
                raise DataError(
                    f"{place}: {key} says that {texts[others[0]]!r} is right, and the answer is "
                    f"{answer!r}; expected one right option: correct the row"
                )
        return Options(texts, texts.index(answer))
    right = _named(record, texts, names, place)
    if right is None:
        raise DataError(
            f"{place}: the answer {answer[:80]!r} is none of the {len(texts)} choices "
            f"({', '.join(map(repr, texts[:4]))}{', …' if len(texts) > 4 else ''}), and none of "
            f"{', '.join(KEYS)} says which is right; expected the text, index or letter of one"
        )
    return Options(texts, right)


def _texts(value: Any, place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options, and their names where they have some."""
    names: Any = ()
    texts = value
    if isinstance(value, Mapping):
        texts, names = value.get("text"), value.get("label") or ()
    good = isinstance(texts, list) and all(isinstance(t, str) and t.strip() for t in texts)
    if not good or len(texts) < 2 or len(names) not in {0, len(texts)}:
        raise DataError(
            f"{place}: choices is {str(value)[:120]!r}; expected a list of two or more texts, or "
            "an object with the lists 'text' and 'label' of equal length"
        )
    stripped = tuple(text.strip() for text in texts)
    (most, times), *_ = Counter(stripped).most_common(1)
    if times > 1:
        raise DataError(
            f"{place}: {most!r} stands {times} times among the choices; expected each once: "
            "correct the row, or remove it"
        )
    return stripped, tuple(map(str, names))


def _named(
    record: Mapping[str, Any], texts: Sequence[str], names: Sequence[str], place: str
) -> int | None:
    """The option that a row says is right."""
    for key in KEYS:
        value = record.get(key)
        if not isinstance(value, str | int) or isinstance(value, bool):
            continue
        found = _readings(value, texts, names)
        if len(found) > 1:
            raise DataError(
                f"{place}: {key} is {value}, which is both the option {texts[found[0]]!r} and the "
                f"number of {texts[found[1]]!r}, counted from 0; expected one meaning: give the "
                f'option as text, "{texts[found[0]]}", or the letter of the right one'
            )
        if not found:
            raise DataError(
                f"{place}: {key} is {str(value)[:80]!r}; expected the text of one of the "
                f"{len(texts)} choices, its letter (A to {chr(64 + min(len(texts), 26))})"
                f"{', one of ' + ', '.join(names) if names else ''} or its number from 0 to "
                f"{len(texts) - 1}"
            )
        return found[0]
    return None


def _readings(value: Any, texts: Sequence[str], names: Sequence[str]) -> list[int]:
    """The options that a value may name: none, one, or as a number two, by its text and by place.

    Text that is one of the options is that option; a number may mean either.
    """
    found = _index(value, texts, names)
    if found is None:
        return []
    numbered = isinstance(value, int) and str(value) not in names and 0 <= value < len(texts)
    return [found, value] if numbered and value != found else [found]


def _index(value: Any, texts: Sequence[str], names: Sequence[str]) -> int | None:
    """The option that a value names; None where it names none."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value).strip()
    for known in (names, texts):
        if text in known:
            return known.index(text)
    letter = _ANSWER_LETTER.fullmatch(text)
    at = ord(letter[1]) - ord("A") if letter else int(text) if text.isdecimal() else -1
    return at if 0 <= at < len(texts) else None


def mean_options(surveys: Iterable[Survey]) -> float:
    """Number of options a sample, over all samples of some files."""
    surveys = tuple(surveys)
    return sum(s.options for s in surveys) / max(sum(s.n for s in surveys), 1)
