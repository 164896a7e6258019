"""Options found in rows, and rows whose options are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.errors import DataError
from didact.evaluation.options import (
    Options,
    last_answer,
    lettered,
    mean_options,
    of_column,
    survey,
    with_answer,
)
from didact.testing import chat, make_pool


def turns(*contents: str) -> list[dict[str, object]]:
    """User and assistant in turn, the user first."""
    return [
        {"part": 0, "role": ("user", "assistant")[i % 2], "content": c, "weight": float(i % 2)}
        for i, c in enumerate(contents)
    ]


def column(said: str, record: dict[str, object]) -> Options | None:
    return of_column(record, turns("q", said), "f: row 1", needed=True)


@pytest.mark.parametrize(
    ("answer", "record", "right"),
    [
        ("two", {"choices": ["one", "two"]}, 1),
        ("  two\n", {"choices": ["one ", "two"]}, 1),
        ("two", {"choices": ["one", "two"], "label": "math"}, 1),  # some other label
        ("(B)", {"choices": ["one", "two"], "answer": 0}, 0),
        ("B", {"choices": ["one", "two"], "answer": "B"}, 1),
        ("", {"choices": ["one", "two"], "label": 1}, 1),
        ("", {"choices": ["one", "two"], "answerKey": "(A)"}, 0),
        ("", {"choices": ["one", "two"], "gold": "two"}, 1),
        ("", {"choices": {"text": ["one", "two"], "label": ["1", "2"]}, "answerKey": "1"}, 0),
        ("", {"choices": {"text": ["one", "two"], "label": ["B", "A"]}, "answerKey": "B"}, 0),
        ("", {"choices": ["1", "0"], "answer": "0"}, 1),  # a text before an index
        ("1", {"choices": ["1", "0"], "answer": 0}, 0),  # a number that agrees as an index
        ("0", {"choices": ["1", "0"], "answer": 0}, 1),  # or as a text
        ("", {"choices": ["0", "1"], "label": 1}, 1),  # both readings are one option
        ("", {"choices": {"text": ["1", "0"], "label": ["0", "1"]}, "answerKey": 0}, 0),
    ],
)
def test_the_right_option_is_found(answer, record, right):
    found = column(answer, record)
    assert found is not None
    assert found.right == right
    assert len(found.texts) == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "has no column 'choices'"),
        ({"choices": []}, "expected a list of two or more texts"),
        ({"choices": ["1", "0"], "label": 0}, "both the option '0' and the number of '1'"),
        ({"choices": ["one"]}, "expected a list of two or more texts"),
        ({"choices": "one two"}, "expected a list of two or more texts"),
        ({"choices": ["one", " "]}, "expected a list of two or more texts"),
        ({"choices": ["one", 2]}, "expected a list of two or more texts"),
        ({"choices": {"text": ["one", "x"], "label": ["A"]}}, "of equal length"),
        ({"choices": ["one", "x", "one "]}, "'one' stands 2 times among the choices"),
        ({"choices": ["one", "x"]}, "is none of the 2 choices"),
        ({"choices": ["one", "x"], "answer": 2}, "its number from 0 to 1"),
        ({"choices": ["one", "x"], "answer": "C"}, r"its letter \(A to B\)"),
        ({"choices": ["one", "x"], "answer": True}, "is none of the 2 choices"),
    ],
)
def test_wrong_choices_are_refused_with_file_and_row(record, message):
    with pytest.raises(DataError, match=rf"f: row 1: .*{message}"):
        column("two", record)


def test_an_answer_that_contradicts_its_key_is_refused():
    with pytest.raises(DataError, match="answer says that 'one' is right, and the answer is 'two'"):
        column("two", {"choices": ["one", "two"], "answer": 0})


def test_rows_without_the_column_are_none_unless_needed():
    assert of_column({}, turns("q", "a"), "f: row 1", needed=False) is None


LIST = "Which?\n(A) museum\n(B) house\n(C) library"


@pytest.mark.parametrize(
    ("prompt", "answer", "texts", "right"),
    [
        (LIST, "(C)", ("(A)", "(B)", "(C)"), 2),
        (LIST, "C", ("A", "B", "C"), 2),
        (LIST, " B. ", ("A.", "B.", "C."), 1),
        ("Which?\nA. x\nB. y", "B", ("A", "B"), 1),
        ("Which?\n  A) x\n  B) y", "A", ("A", "B"), 0),
        (f"{LIST}\n(C)\n\nNext?\n(A) x\n(B) y", "(B)", ("(A)", "(B)"), 1),  # an example before
    ],
)
def test_letters_of_the_prompt(prompt, answer, texts, right):
    assert lettered(turns(prompt, answer), "f: row 1") == Options(texts, right)


@pytest.mark.parametrize(
    ("prompt", "answer"), [("no list", "(A)"), (LIST, "house"), ("(A) one alone", "(A)")]
)
def test_rows_without_letters_are_no_multiple_choice(prompt, answer):
    assert lettered(turns(prompt, answer), "f: row 1") is None


def test_a_letter_that_is_not_in_the_list_is_refused():
    with pytest.raises(DataError, match=r"f: row 1: the answer is '\(D\)'.*options A to C"):
        lettered(turns(LIST, "(D)"), "f: row 1")


def test_an_option_takes_the_place_of_the_last_answer():
    sample = [*turns("q", "first", "r", "last"), *turns("thanks")]
    assert last_answer(sample) == "last"
    found = with_answer(sample, "x")
    assert [t["content"] for t in found] == ["q", "first", "r", "x"]
    assert [t["weight"] for t in found] == [0, 0, 0, 1]
    alone = with_answer(turns("q"), "x")
    assert [(t["role"], t["content"]) for t in alone] == [("user", "q"), ("assistant", "x")]


def test_labels_are_the_distinct_answers(tmp_path):
    rows = [chat(str(i), f"q{i}", ("pay", "fly", "pay ")[i % 3]) for i in range(6)]
    pool = make_pool(rows, tmp_path)
    found = survey(pool, np.arange(6), "labels", "f")
    assert found.labels == ("fly", "pay")
    assert (found.questions, found.options) == (6, 12)
    assert mean_options([found, found]) == 2


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["a", "a", "a"], "1 distinct answers in 3 rows"),
        (["a", "b", "c", "d"], "4 distinct answers in 4 rows"),
        (["a", "b", "", "a"], "row 3: has no answer"),
    ],
)
def test_answers_that_are_no_labels_are_refused(answers, message, tmp_path):
    pool = make_pool([chat(str(i), f"q{i}", a) for i, a in enumerate(answers)], tmp_path)
    with pytest.raises(DataError, match=f"f: {message}"):
        survey(pool, np.arange(len(answers)), "labels", "f")


def test_forms_that_a_file_has_not_are_refused(tmp_path):
    pool = make_pool([chat("a", "q", "b")], tmp_path)
    with pytest.raises(DataError, match="f: no row has options in its prompt"):
        survey(pool, np.arange(1), "letters", "f")
    with pytest.raises(DataError, match="f: row 1: has no column 'choices'"):
        survey(pool, np.arange(1), "column", "f")
    text = make_pool([{"text": "some text"}], tmp_path, name="text")
    with pytest.raises(DataError, match="f: holds plain text, which has no answers to choose"):
        survey(text, np.arange(1), "labels", "f")
    assert survey(text, np.arange(1), None, "f").questions == 0


def test_an_options_place_is_without_the_reasoning_of_the_answer():
    trace = {"part": 0, "role": "reasoning", "content": "so B", "weight": 1.0}
    asked = "Which?\nA) one\nB) two"
    first, second = turns("earlier", "said"), turns(asked, "B")
    sample = [first[0], trace, first[1], second[0], trace, second[1]]
    replaced = with_answer(sample, "A")
    assert [turn["content"] for turn in replaced] == ["earlier", "so B", "said", asked, "A"]
    assert last_answer(sample) == "B"
    assert lettered(sample, "f: row 1") is not None
    only = [second[0], {**trace, "content": "A) no B) no"}, second[1]]
    assert lettered(only, "f: row 1") == lettered(second, "f: row 1")
