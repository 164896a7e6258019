"""Files and rows that people stumble over: read right, or refused by the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

import didact
from didact.core.errors import ConfigError, DataError

HI = '{"text": "hi"}'


def texts(path: Path, **settings: Any) -> list[str]:
    pool = didact.read(path, **settings)
    return pool.read(range(len(pool)), ["text"]).column("text").to_pylist()  # type: ignore[no-any-return]


def written(folder: Path, text: str, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def lines(*rows: Any) -> str:
    return "".join(orjson.dumps(row).decode() + "\n" for row in rows)


# -- text that is no JSON --------------------------------------------------------------------------

JSON_FAULTS = {
    "a comma at the array's end": ("x.json", f"[{HI}, {HI}, ]", r"row 3: '' is not JSON: a comma stands before '\]'"),
    "two commas": ("x.json", f"[{HI},, {HI}]", "row 2: .*: a comma stands where an element should"),
    "a comma at its beginning": ("x.json", f"[, {HI}]", "row 1: .*: a comma stands where"),
    "no comma": ("x.json", f"[{HI} {HI}]", "neither a comma nor a line end between them"),
    "a comma at an object's end": ("x.jsonl", '{"text": "hi",}', "a comma stands before '}'"),
    "a comma at a list's end": ("x.jsonl", '{"text": "a", "b": [1,]}', r"a comma stands before '\]'"),
    "two commas inside": ("x.jsonl", '{"text": "a",, "b": 1}', "two commas stand in a row"),
    "a comma behind a line": ("x.jsonl", f"{HI},\n{HI}\n", "lines of JSON have none"),
    "no comma inside": ("x.jsonl", '{"text": "a" "b": 1}', """a comma is missing before '"b": 1}'"""),
    "no colon": ("x.jsonl", '{"text" "a"}', "a colon is missing"),
    "carriage returns": ("x.jsonl", f"{HI}\r{HI}\r{HI}\r", r"carriage returns \(\\r\)"),
    "two objects on a line": ("x.jsonl", f"{HI}{HI}\n", "two objects stand here"),
    "single quotes": ("x.jsonl", "{'text': 'hi'}", "single quotes are Python's"),
    "a comment": ("x.jsonl", f"{HI} // greeting", "is a comment; JSON has none"),
    "a comment in an array": ("x.json", f"[/* first */ {HI}]", "is a comment"),
    "Python's None": ("x.jsonl", '{"text": "hi", "id": None}', "None is not JSON's"),
    "JavaScript's undefined": ("x.jsonl", '{"text": undefined}', "undefined is not JSON's"),
    "a bare key": ("x.jsonl", '{text: "hi"}', "the key 'text' has no double quotes"),
    "a tab in a text": ("x.jsonl", '{"text": "a\tb"}', "stands inside a text"),
    "a backslash": ("x.jsonl", r'{"text": "C:\dir"}', "a backslash begins no escape"),
    "pandas' columns": ("x.json", '{"text": {"0": "a", "1": "b"}}', "orient='records', lines=True"),
    "a file cut inside a row": ("x.jsonl", f'{HI}\n{{"text":"b"', "row 2: .*the file was cut short there"),
    "a file cut inside a text": ("x.jsonl", f'{HI}\n{{"text":"b', "row 2: .*the file was cut short there"),
    "a file cut before a value": ("x.jsonl", f'{HI}\n{{"text": ', "row 2: .*the file was cut short there"),
    "the whole over lines": ("x.json", '{\n "text": "hi"\n}\n', "belongs into an array"),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_FAULTS)
def test_what_is_wrong_with_json_is_named(name, tmp_path):
    file, text, message = JSON_FAULTS[name]
    with pytest.raises(DataError, match=message):
        didact.read(written(tmp_path, text, file))


def test_lines_that_end_in_carriage_returns_alone(tmp_path):
    path = written(tmp_path, "one\rtwo\rthree\r", "x.txt")
    with pytest.raises(DataError, match=r"x\.txt: its lines end in carriage returns \(\\r\)"):
        didact.read(path)
    assert texts(path, lines="file") == ["one\rtwo\rthree\r"]
    assert texts(written(tmp_path, "one\r\ntwo\r\n", "y.txt")) == ["one", "two"]


def test_numbers_that_are_none_are_read(tmp_path):
    assert texts(written(tmp_path, '{"text": "hi", "x": NaN, "y": -Infinity}')) == ["hi"]


# -- rows inside one object ------------------------------------------------------------------------

WRAPPED = '{"version": "1", "meta": {"l": [{"a": 1}]}, "data": [%s],\n "more": [{"b": "]"}]}'


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "data": [\n    {"text": "hi"},\n    {"text": "a]b"}\n  ]\n}\n',
        '{"data":[{"text":"hi"},{"text":"a]b"}]}',
    ],
)
def test_rows_inside_one_object(text, tmp_path):
    path = written(tmp_path, text, "x.json")
    assert texts(path, columns={"rows": "data"}) == ["hi", "a]b"]
    pool = didact.read(path, columns={"rows": "data"})
    assert [orjson.loads(row) for row in pool.records([1])] == [{"text": "a]b"}]
    with pytest.raises(DataError, match="rows are in 'data': read them with --data columns.rows=d"):
        didact.read(path)


def test_rows_inside_objects_among_others(tmp_path):
    path = written(tmp_path, WRAPPED % f"{HI}, {HI}", "x.json")
    assert texts(path, columns={"rows": "data"}) == ["hi", "hi"]
    deep = written(tmp_path, '{"a": {"rows": [1], "b": {"rows": [' + HI + "]}}}", "y.json")
    assert texts(deep, columns={"rows": "a.b.rows"}) == ["hi"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WRAPPED % HI, "no list of rows at 'dta'; there are lists at 'meta.l' and 'data'"),
        (f'{{"dta": [{HI}]}}\n[{HI}]\n', r"row 2: b'\[.* stands where an object should begin"),
        (f'{{"dta": [{HI}]}},{{"dta": [{HI}]}}', "row 2: b',.* stands where an object should"),
        ('{"a": ' * 600 + "1" + "}" * 600, "objects nested more than 512 deep"),
        (f'{{"dta": [{HI}]}}\n{HI}\n', "has an object with no list of rows at 'dta'"),
        (f'{{"dta": [{HI}, {{"te', "the file ends inside the array"),
        (f'{{"dta": [{HI}]', "row 2: the file ends inside the object, after .*truncated"),
        (
            f'{{"dta": [{HI}], "more": [{HI}',
            "row 2: the file ends inside the object, after .*trunc",
        ),
        (f'{{"dta": [{HI}], "more', "row 2: the file ends inside the object, after .*truncated"),
        (f'{{"a": {{"dta": [{HI}]}}, "dta": [{HI}]', "row 2: the file ends inside the object"),
        (f'{{"dta": [{HI}], "dta": [{HI}]}}', "has the key 'dta' twice in one object"),
        ('{"dta": ["a", 1]}', "row 1: 'a' is a text; expected a JSON object"),
        ('{"dta": []}', "no sample to use"),
        ('{"dta": "text"}', "no list of rows at 'dta'; expected one object"),
    ],
)
def test_rows_that_are_not_where_they_are_said_to_be(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        didact.read(written(tmp_path, text, "x.json"), columns={"rows": "dta"})


def test_a_long_name_of_a_list_is_said_short(tmp_path):
    text = f'{{"dta": [{HI}], "{"k" * 9000}": [{HI}]}}'
    pool = didact.read(written(tmp_path, text, "x.json"), columns={"rows": "dta"})
    (found,) = (f for f in pool.findings if f.kind == "lists_skipped")
    assert max(map(len, (found.first, found.text, found.remedy))) < 250


def test_rows_of_other_lists_are_counted(tmp_path):
    text = f'{{"train": [{HI}, {HI}], "test": [{HI}], "dev": {{"x": [{HI}, {HI}]}}, "n": ["a"]}}'
    pool = didact.read(written(tmp_path, text, "x.json"), columns={"rows": "train"})
    (found,) = (f for f in pool.findings if f.kind == "lists_skipped")
    assert (found.count, found.first, len(pool)) == (3, "x.json 'test'", 2)
    assert "not read (dev.x 2, test 1)" in found.text
    assert found.remedy.startswith("data.columns.rows: test reads")


def test_the_remedy_for_objects_with_rows_works_when_it_is_followed(tmp_path):
    each = '{"data": [{"text": "a {"}]}', '{"data": [], "n": 1}', '{"data": [{"text": "b"}]}'
    over_lines = [orjson.dumps(orjson.loads(o), option=orjson.OPT_INDENT_2).decode() for o in each]
    for objects in (each, over_lines, [*each[:1], *over_lines[1:]]):
        path = written(tmp_path, "\n".join(objects))
        with pytest.raises(DataError, match="--data columns.rows=data "):
            didact.read(path)
        assert texts(path, columns={"rows": "data"}) == ["a {", "b"]
    nested = written(tmp_path, f'{{"data": {{"info": {{}}, "train": [{HI}]}}}}')
    with pytest.raises(DataError, match="--data columns.rows=data.train "):
        didact.read(nested)
    assert texts(nested, columns={"rows": "data.train"}) == ["hi"]


def test_rows_over_several_lines_are_no_wrapped_rows(tmp_path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = 'use {x}, [y] or "role'
    row = {"tools": tools, "messages": [{"content": asked, "role": "user"}]}
    path = written(tmp_path, orjson.dumps(row, option=orjson.OPT_INDENT_2).decode() * 2)
    with pytest.raises(DataError, match="which looks like a row; .* jq -c"):
        didact.read(path)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("beside", [{"features": [{"name": "text"}]}, {"schema": {"fields": [{}]}}])
def test_the_list_whose_entries_look_like_rows_is_offered(indent, beside, tmp_path):
    path = written(tmp_path, json.dumps({**beside, "data": [{"text": "hi"}]}, indent=indent))
    with pytest.raises(DataError, match="--data columns.rows=data "):
        didact.read(path)


@pytest.mark.parametrize(
    "frame",
    [
        {"0": {"body": "a"}, "1": {"body": "b"}},
        {"0": {"body": "a"}, "1": {"corps": "b"}},
        {"body": {"0": "a", "7": "b"}, "lang": {"0": "a", "7": "b"}},
        {"columns": ["text"], "index": [0, 1], "data": [["a"], ["b"]]},
    ],
)
def test_frames_of_pandas_in_other_orientations(frame, tmp_path):
    with pytest.raises(DataError, match="orient='records', lines=True"):
        didact.read(written(tmp_path, json.dumps(frame)))


def test_a_row_of_objects_is_no_frame(tmp_path):
    row = {"question": {"text": "q"}, "document": {"html": "d"}, "answer": {"text": "a"}}
    with pytest.raises(DataError, match="name the columns, e.g. --data columns.messages="):
        didact.read(written(tmp_path, json.dumps(row)))


def test_rows_in_elements_of_an_array_are_not_offered_where_they_cannot_be_read(tmp_path):
    text = f'[{{"data": [{HI}]}}]'
    with pytest.raises(DataError, match=r"its rows may be in 'data', and are read so from one obj"):
        didact.read(written(tmp_path, text, "x.json"))


def test_rows_of_a_list_are_in_no_object(tmp_path):
    path = written(tmp_path, f"[{HI}]", "x.json")
    with pytest.raises(ConfigError, match="data.columns.rows: no file is one JSON object"):
        didact.read(path, columns={"rows": "data"})


def test_a_long_object_on_one_line_is_told_from_a_long_row(tmp_path):
    path = written(tmp_path, '{"data": [' + ", ".join([HI] * 200) + "]}", "x.json")
    with pytest.raises(DataError, match="or the file is one object, and its rows are in 'data'"):
        didact.read(path, max_row_bytes=1024)
    assert texts(path, max_row_bytes=1024, columns={"rows": "data"}) == ["hi"] * 200


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"text": "a", "source": "s"}, {"source": "sorce"}, "no row has 'sorce'; did you mean 'sou"),
        ({"text": "a", "uid": "7"}, {"id": "uuid"}, "columns.id: no row has 'uuid'; did you mean"),
        ({"text": "a", "meta": {"lang": "ar"}}, {"task": "meta.langg"}, "no row has 'meta.langg'"),
        (
            {"messages": [{"role": "assistant", "content": "a", "loss": 1}]},
            {"weight": "los"},
            "no message has 'los'; did you mean 'loss'",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, {"tools": "tool"}, "no row has 'tool'"),
    ],
)  # fmt: skip
def test_a_column_that_no_row_has(row, columns, message, tmp_path):
    path = written(tmp_path, lines(row))
    for _ in range(2):  # read, and found in the cache
        with pytest.raises(ConfigError, match=message):
            didact.read(path, columns=columns)


def test_a_column_that_some_rows_have(tmp_path):
    path = written(tmp_path, lines({"text": "a"}, {"text": "b", "lang": None}, {"text": "c"}))
    assert didact.read(path, columns={"source": "lang", "task": "-"}).source_names == ("x",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"messages": None}, {"messages": []}], "row 1: messages is null"),
        ([{"conversations": None}], "row 1: conversations is null"),
        ([{"text": None, "id": "7"}], "row 1: text is null"),
        ([{"prompt": "q", "completion": None}], "row 1: completion is null; the row has prompt and"),
        ([{"instruction": "q", "input": ""}], "row 1: output is missing; the row has instruction"),
        (
            [{"instruction": "q", "output": "a"}] * 2 + [{"instruction": "q", "input": ""}],
            "row 3: column 'output' is missing; .* only this row lacks it, 2 rows before have one",
        ),
        (
            [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": None}],
            "row 2: column 'completion' is null; .* only this row lacks it, the row before has one",
        ),
        ([{"dialogue": [{"from": "human", "value": "x"}]}], "--data columns.messages=dialogue"),
    ],
)  # fmt: skip
def test_a_row_without_content_says_what_is_missing(rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        didact.read(written(tmp_path, lines(*rows)))


# -- messages as JSON text -------------------------------------------------------------------------

CHAT = [{"role": "user", "content": "سؤال"}, {"role": "assistant", "content": "جواب"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": orjson.dumps(CHAT).decode()},
        {"conversations": " \n" + orjson.dumps(CHAT).decode()},
        {"messages": [orjson.dumps(message).decode() for message in CHAT]},
    ],
)
def test_messages_as_json_text(row, tmp_path):
    assert texts(written(tmp_path, lines(row))) == ["سؤال\nجواب"]


def test_tool_calls_as_json_text(tmp_path):
    call = {"role": "assistant", "content": "", "tool_calls": '[{"name": "f"}]'}
    none = {"role": "assistant", "content": "done", "tool_calls": "[]"}
    assert texts(written(tmp_path, lines({"messages": [call, none]}))) == ['[{"name": "f"}]\ndone']


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{'role': 'user', 'content': 'hi'}]", "the text is Python's way to write one"),
        ('[{"role": "user"', "looks like JSON and is not valid"),
        ('[{"role": "user", "content": "\\ud800"}]', "looks like JSON and is not valid"),
        ("[" * 5000, "looks like JSON and is not valid"),
        ("hi", r"\(str\); expected a list of messages"),
    ],
)
def test_messages_as_other_text(value, message, tmp_path):
    with pytest.raises(DataError, match=message):
        didact.read(written(tmp_path, lines({"messages": value})))


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad"),
    [(True, False), (1, 0), (1.0, 0.0), ("true", "False"), (" TRUE ", "0"), (1, -1), ("Like", "dislike"), ("desirable", "undesirable")],
)  # fmt: skip
def test_labels_of_kto_in_every_spelling(good, bad, tmp_path):
    for content in ({"prompt": "q", "completion": "a"}, {"messages": CHAT}):
        rows = [{**content, "label": label} for label in (good, bad)]
        pool = didact.read(written(tmp_path, lines(*rows)))
        assert pool.kind == "labelled"
        plain = [{**content, "label": label} for label in (True, False)]
        same = didact.read(written(tmp_path, lines(*plain), "plain.jsonl"))
        assert pool.content_hash.tolist() == same.content_hash.tolist()


ANSWER = {"prompt": "q", "completion": "a"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, "maths"], "row 2: label is 'maths'; expected true or false"),
        ([1, 2], "row 2: label is 2"),
        ([True, None], "row 2: label is None"),
        (["maths", 1], "row 2: the row has the label 1, and the file's first row has none like it"),
        ([None, "true"], "row 2: the row has the label 'true'"),
    ],
)
def test_labels_that_are_half_ktos(labels, message, tmp_path):
    path = written(tmp_path, lines(*({**ANSWER, "label": label} for label in labels)))
    with pytest.raises(DataError, match=message):
        didact.read(path)
    assert didact.read(path, columns={"label": "-"}).kind == "chat"


@pytest.mark.parametrize(
    ("row", "kind"),
    [({"text": "good film", "label": 1}, "text"), ({**ANSWER, "label": "maths"}, "chat")],
)
def test_labels_that_are_classes(row, kind, tmp_path):
    assert didact.read(written(tmp_path, lines(row, row))).kind == kind


# -- bad rows of a target set and of held-out files ------------------------------------------------


def test_bad_rows_of_held_out_files_are_errors_unless_asked_for(tmp_path):
    pool = written(tmp_path, lines(*({"text": f"a long sentence on cat {i}"} for i in range(3))))
    held_out = written(
        tmp_path, lines({"txt": "a long sentence on cat 1"}, {"text": "b"}), "h.jsonl"
    )
    settings = {"exclude": [str(held_out)], "exclude_ngram": 4, "on_bad_row": "skip"}
    with pytest.raises(DataError, match="set held_out_on_bad_row=skip; text that is only in them"):
        didact.read(pool, **settings)
    assert len(didact.read(pool, **settings, held_out_on_bad_row="skip")) == 3


def test_skipped_rows_of_every_role_are_counted_and_listed(tmp_path):
    pool = written(tmp_path, lines({"text": "apple bread"}, {"txt": "lost"}, {"text": "cloud"}))
    target = written(tmp_path, lines({"text": "apple"}, {"text": ""}, 7), "target.jsonl")
    held_out = written(tmp_path, lines({"txt": "x"}, {"text": "iron"}), "held.jsonl")
    data = {"path": str(pool), "exclude": str(held_out), "on_bad_row": "skip"}
    config = {
        "data": {**data, "held_out_on_bad_row": "skip"},
        "score": {"method": "bm25", "target": str(target)},
        "select": {"method": "top_k", "budget": {"samples": 1}},
    }
    done = didact.run(config, tmp_path / "run")
    expected = {
        "rejected.jsonl": [2], "rejected_held_out.jsonl": [1], "rejected_score_target.jsonl": [2, 3],
    }  # fmt: skip
    for name, rows in expected.items():
        listed = (tmp_path / "run" / name).read_bytes().splitlines()
        assert [orjson.loads(line)["row"] for line in listed] == rows
    stages = {record.name: record for record in done.manifest.stages}
    assert stages["data"].counts["rejected"] == 1
    assert stages["data"].counts["rejected_held_out"] == 1
    assert stages["score"].counts["rejected_target"] == 2
