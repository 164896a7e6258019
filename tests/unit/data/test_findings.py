"""What rows show is counted by kind, with the first row and the setting that changes it."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

import didact
from didact.core import registry
from didact.core.errors import ConfigError, DataError
from didact.core.findings import Finding, findings_of
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import RowError
from didact.data.rows.format import Format
from didact.data.rows.sayings import DROPPABLE, SAYINGS


def said(*pairs, **more):
    """A row of messages."""
    return {"messages": [{"role": role, "content": text} for role, text in pairs], **more}


def asked(question, answer, **more):
    return said(("user", question), ("assistant", answer), **more)


FINE = asked("ما عاصمة مصر؟", "القاهرة")


@pytest.fixture
def read(tmp_path):
    """Rows → the pool of a file of them."""

    def made(rows, name="rows.jsonl", **settings):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return didact.read(path, cache_dir=tmp_path / "cache", **settings)

    return made


def kinds(pool):
    return {finding.kind: finding.count for finding in pool.findings}


CHATS = {
    "empty_answer": [
        asked("你好", ""),
        asked("q", " \n\t"),
        asked("q", "\u3000\u200b\ufeff"),
        asked("q", "\u00a0"),
        {"prompt": "q", "completion": ""},
        {"instruction": "قل شيئا", "output": "  "},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]},
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "", "reasoning_content": "only a trace"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": []}]},
    ],
    "files": [
        {"messages": [
            {"role": "user", "content": [{"type": kind, "source": {}}, {"type": "text", "text": "q"}]},
            {"role": "assistant", "content": "a"}]}
        for kind in ("file", "document", "input_file")
    ],
    "unread_part": [
        {"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": kind, "data": "数据"}, {"text": "好"}]}]}
        for kind in ("artifact", 3, None)
    ],
    "empty_turn": [
        said(("user", ""), ("assistant", "نعم")),
        said(("user", "q"), ("assistant", " "), ("user", "再说"), ("assistant", "好")),
    ],
    "no_answer": [said(("user", "كيف حالك؟")), said(("system", "s"), ("user", "u")),
                  said(("user", "a"), ("tool", "b"))],
    "only_system": [said(("system", "你是助手")), said(("system", "a"), ("system", "b"))],
    "untrained": [
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a", "weight": 0}]},
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a", "train": False}]},
    ],
    "null_turn": [
        said(("user", None), ("assistant", "جواب")),
        {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": "x"}]},
    ],
    "images": [
        asked([{"type": "text", "text": "这是什么"}, {"type": "image_url", "image_url": {}}], "猫"),
        asked([{"type": "input_image"}, {"type": "text", "text": "?"}], "a"),
        asked("<image>?", "a", images=["a.png"]),
        asked("<image>?", "a", image="a.png"),
        {"messages": [{"role": "user", "content": "?", "images": ["a.png"]},
                      {"role": "assistant", "content": "a"}]},
        asked([{"image": "a.png"}, {"text": "?"}], "a"),
    ],
    "audio": [asked([{"type": "input_audio"}, {"type": "text", "text": "?"}], "a"),
              asked("<audio>?", "a", audios=["a.wav"])],
    "video": [asked("<video>?", "a", videos=["a.mp4"])],
    "tools": [
        asked("q", "a", tools=[{"type": "function", "function": {"name": "طقس"}}]),
        asked("q", "a", tools='[{"name": "f"}]'),
        asked("q", "a", functions=[{"name": "f"}]),
        said(("user", "q"), ("Function_Call", '{"name": "f"}')),
        {"messages": [{"role": None, "from": "human", "value": "q"},
                      {"role": None, "from": "Tool", "value": "r"},
                      {"role": None, "from": "gpt", "value": "a"}]},
        said(("user", "q"), ("tool", "3 °C"), ("assistant", "a")),
        said(("user", "q"), ("assistant", "a"), ("observation", "r")),
        {"messages": [{"role": "user", "content": "天气"},
                      {"role": "assistant", "content": None, "tool_calls": [{"function": {}}]}]},
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "", "function_call": {"name": "f"}}]},
    ],
    "reasoning": [
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a", "thinking": "想一想"}]},
        asked("q", [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]),
        asked("q", "<think>فكرة</think>a"),
        {"prompt": "q", "completion": "\n<think>t</think>\n\na"},
        asked("q", "<|begin_of_thought|>t<|end_of_thought|>a"),
        asked("q", "the mark that opens it is in the template</think>a"),
    ],
    "json_text": [{"messages": json.dumps(FINE["messages"])}],
    "unknown_role": [said(("narrator", "旁白"), ("assistant", "a"))],
    "unread_functions": [asked("q", "a", functions=["add"]), asked("q", "a", functions="def f()")],
    "result_in_turn": [
        {"messages": [
            {"role": "user", "content": [{"type": "tool_result", "content": "3 °C"}]},
            {"role": "assistant", "content": "a"}]},
    ],
    "weighted": [
        {"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a", **more}]}
        for more in ({"weight": 0.5}, {"loss_scale": 2}, {"loss_weight": 3.0, "weight": None})
    ],
    "unread_fault": [{**FINE, "rejected": value} for value in (True, False, "yes", 0)],
    "unread_label": [{**FINE, "is_good": True}, {**FINE, "is_good": 0},
                     {**FINE, "is_good": "False"}, {**FINE, "is_good": "no"}],
}  # fmt: skip


@pytest.mark.parametrize("kind", CHATS)
def test_each_row_of_a_kind_is_counted(kind, tmp_path):
    for i, row in enumerate(CHATS[kind]):
        (tmp_path / f"{i}.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "z.jsonl").write_text(json.dumps(FINE))
    pool = didact.read(tmp_path, cache_dir=tmp_path / "cache")
    (finding,) = (found for found in pool.findings if found.kind == kind)
    assert (finding.count, finding.first) == (len(CHATS[kind]), "0.jsonl row 1")
    assert finding.text.startswith(f"{len(CHATS[kind])} row")


@pytest.mark.parametrize(
    "row",
    [
        FINE,
        asked("q", "\u200bvisible"),
        asked("q", "a", tools=[], images=None, image="", videos=[]),
        asked("q", "a", tools="[]"),
        asked("What does <think> mean?", "It opens a trace, <think> it does."),
        asked("</think>", "It is <think> t </think>"),
        asked("q", "a", label="cat", accepted=3),
        asked("q", "a", is_english=True, toxic=False, flagged="no", multi_turn="yes", ok=1),
        asked("q", "a", rating="1", correct="1", labels=["a"], rejected="I cannot"),
        asked("q", "a", correct=0, rating=1.0, thoughts=None),
        {"text": "a", "reasoning": "high", "tools": [], "functions": None},
        said(("developer", "d"), ("user", "q"), ("assistant", "a")),
        said(("system", ""), ("user", "q"), ("assistant", "a")),
        said(("User", "q"), ("GPT", "a")),
        {"text": "one text", "label": 1},
        {"text": "\u3000一"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "completion": "a", "label": True},
    ],
)
def test_nothing_is_said_where_there_is_nothing(row, read):
    assert read([row]).findings == ()


@pytest.mark.parametrize("blank", [" ", "\n\n\t", "\u3000\u2003", "\u200b\u2060", "\x00\x07"])
def test_texts_without_a_visible_character_are_counted(blank, read):
    assert kinds(read([{"text": "猫"}, {"text": blank}])) == {"blank_text": 1}


def pair(chosen, rejected, **more):
    return {"prompt": "ما هذا؟", "chosen": chosen, "rejected": rejected, **more}


def test_pairs_that_prefer_nothing_are_told_apart(read):
    answers = [[{"role": "assistant", "content": text}] for text in ("猫", "狗")]
    pool = read(
        [
            pair(None, "b"),
            pair("a", "b"),
            pair(*answers),
            pair(answers[0], answers[0]),
            pair("same", " same\n"),
            pair("a", " "),
            pair("", "c"),
            pair("a", None),
        ]
    )
    assert kinds(pool) == {"pair_equal": 2, "pair_empty": 2, "pair_null": 2}
    assert [found.first for found in pool.findings] == [f"rows.jsonl row {n}" for n in (4, 6, 1)]


def test_labels_that_are_no_truth_values_are_said_and_can_be_left_unread(read):
    rows = [{"prompt": str(n), "completion": "a", "label": n % 2} for n in range(4)]
    pool = read(rows)
    assert (pool.kind, kinds(pool)) == ("labelled", {"label_spelled": 4})
    plain = read(rows, columns={"label": "-"})
    assert (plain.kind, kinds(plain)) == ("chat", {})
    named = read([{**row, "label": None, "is_good": row["label"]} for row in rows], "named.jsonl")
    assert kinds(named) == {"unread_label": 4}
    assert named.findings[0].remedy == "data.columns.label: is_good reads KTO's labels"
    mapped = read([{**row, "is_good": 1} for row in rows], "m.jsonl", columns={"label": "is_good"})
    assert (mapped.kind, kinds(mapped)) == ("labelled", {"label_spelled": 4})


@pytest.mark.parametrize(("good", "bad"), [
    ("correct", "Incorrect"), ("pass", "fail"), ("accept", "reject"), ("y", "n"), ("t", "f"),
    ("thumbs_up", "thumbs_down"), ("+1", "-1"), ("passed", "wrong"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["label", "Label", "KTO_tag"])
def test_labels_whose_meaning_is_certain_are_read(read, name, good, bad):
    pool = read([{**FINE, name: good}, {"messages": FINE["messages"], name: bad}])
    assert (pool.kind, kinds(pool)) == ("labelled", {"label_spelled": 2})
    booleans = [{"messages": FINE["messages"], "label": label} for label in (True, False)]
    ids = [p.read(range(2), ["id"]).to_pylist() for p in (pool, read(booleans, "booleans.jsonl"))]
    assert ids[0] == ids[1]  # they are of the content and the label


@pytest.mark.parametrize(
    ("good", "bad"), [("pos", "neg"), ("positive", "Negative"), ("up", "down")]
)
def test_labels_that_may_be_a_class_are_read_where_their_column_is_named(read, good, bad):
    rows = [{**FINE, "label": good, "grade": good}, {**FINE, "label": bad, "grade": bad}]
    plain = read(rows)
    assert (plain.kind, kinds(plain)) == ("chat", {"unread_label": 2, "duplicates": 1})
    named = read(rows, columns={"label": "grade"})
    assert (named.kind, kinds(named)) == ("labelled", {"label_spelled": 2})


@pytest.mark.parametrize("value", [0.2, "maths", [True], "ممتاز"])
def test_a_column_that_is_named_the_label_is_read_or_refused(read, value):
    settings = {"columns": {"label": "grade"}}
    for rows in ([{**FINE, "grade": value}], [FINE, {**FINE, "grade": value}]):
        with pytest.raises(DataError, match=r"row .: grade is .*columns\.label=-"):
            read(rows, **settings)
    with pytest.raises(DataError, match=r"'grade' is mapped to be the label, and rows of text"):
        read([{"text": "书", "grade": value}], **settings)
    assert read([{**FINE, "label": value}]).kind == "chat"


def test_a_label_beside_columns_that_are_named(read):
    rows = [
        {"question": "س", "answer": "ج", "label": True},
        {"question": "q", "answer": "a", "label": 0},
    ]
    pool = read(rows, columns={"prompt": "question", "completion": "answer"})
    assert (pool.kind, kinds(pool)) == ("labelled", {"label_spelled": 1})
    chats = [{"chat": FINE["messages"], "label": False}]
    assert read(chats, columns={"messages": "chat"}).kind == "labelled"


@pytest.mark.parametrize(("name", "value"), [
    ("is_correct", True), ("correct", "no"), ("feedback", "thumbs_down"), ("labels", 1),
    ("rating", "good"), ("thumbs_up", 1.0), ("thumbs_up", "yes"), ("is_preferred", "no"),
])  # fmt: skip
def test_columns_that_look_like_a_label_are_said(read, name, value):
    assert kinds(read([{**FINE, name: value}])) == {"unread_label": 1}
    assert kinds(read([{**FINE, "rating": 1, "feedback": "ممتاز جدا"}])) == {}


@pytest.mark.parametrize("name", ["label", "accepted", "preferred", "thumbs_up", "upvoted", "vote"])
def test_verdicts_are_read_or_said(read, name):
    pool = read([{**FINE, name: "yes"}, {**FINE, name: "no"}])
    assert kinds(pool)["label_spelled" if name == "label" else "unread_label"] == 2


@pytest.mark.parametrize("name", ["thumbs_down", "is_rejected", "disliked", "is_bad"])
def test_verdicts_that_say_bad_are_not_offered_as_labels(read, name):
    (found,) = read([{**FINE, name: True}]).findings
    assert found.kind == "unread_fault"
    assert f"data.columns.label: {name}" not in found.remedy


def test_what_stands_beside_a_text_is_said_to_be_unread(read):
    tools = [{"name": "f"}]
    pool = read([
        {"text": "一", "tools": tools, "reasoning": "想一想"},
        {"text": "二", "functions": tools, "rationale": "因为"},
        {"text": "三", "tools": ["search"], "reasoning_content": "t"},
    ])  # fmt: skip
    assert kinds(pool) == {"unread_tools": 3, "text_reasoning": 1}
    named = [f.text.split("'")[1] for f in pool.findings if f.kind == "text_reasoning"]
    assert named == ["reasoning", "rationale", "reasoning_content"]
    assert kinds(read([{"text": "一", "tools": tools}, {"text": "二"}], drop=["unread_tools"])) == {
        "rejected": 1
    }
    assert kinds(read([{"reasoning": "想"}], columns={"text": "reasoning"})) == {}
    assert kinds(read([{"text": "一", "functions": "def f()"}])) == {}
    assert kinds(read([{"text": "一", "reasoning": "想"}], reasoning="drop")) == {
        "text_reasoning": 1
    }


def test_dots_reach_into_nested_columns(read):
    rows = [{**FINE, "m": {"good": n % 2 == 0}, "x": {"t": [{"name": "f"}]}} for n in range(2)]
    labelled = read(rows, columns={"label": "m.good", "tools": "x.t"})
    assert (labelled.kind, kinds(labelled)) == ("labelled", {"tools": 2})
    rows[0]["m"]["good"] = "yes"
    assert kinds(read(rows, columns={"label": "m.good"})) == {"label_spelled": 1}


def test_columns_are_asked_about_only_where_a_format_reads_them(read, monkeypatch):
    def answers(row, columns):
        del columns
        asked = (0, "user", "动物", 0.0)
        return [asked, (1, "assistant", row["better"], 1.0), (2, "assistant", row["worse"], 1.0)]

    def label(row, columns):
        del columns
        return row["fine"] == "fine"

    own = {
        "mine": Format(kind="pair", content=("better", "worse"), turns=answers, read_row=""),
        "judged": Format(
            kind="labelled", content=("question", "fine"), label=label, read_row="",
            turns=lambda row, _: [(0, "assistant", row["question"], 1.0)],
        ),
    }  # fmt: skip
    found = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: own.get(name) or found(kind, name))
    monkeypatch.setattr(registry, "known", lambda kind: [*own] if kind == "formats" else [])
    assert kinds(read([{"better": "猫", "worse": "狗"}])) == {}
    assert kinds(read([{"question": "猫", "fine": "fine"}], "l.jsonl")) == {}


def test_a_row_whose_label_is_refused_leaves_no_trace(read, monkeypatch):
    def label(row, columns):
        del columns
        if row["fine"] is None:
            raise RowError("fine is null")
        return bool(row["fine"])

    judged = Format(
        kind="labelled", content=("text",), label=label, read_row="",
        turns=lambda row, _: [(0, "assistant", row["text"], 1.0)],
    )  # fmt: skip
    monkeypatch.setattr(registry, "find", lambda *_: judged)
    monkeypatch.setattr(registry, "known", lambda kind: ["judged"] if kind == "formats" else [])
    rows = [{"text": text, "fine": fine} for text, fine in (("一", 1), ("二", None), ("三", 0))]
    pool = read(rows, on_bad_row="skip")
    assert pool.read([0, 1], ["text"]).column(0).to_pylist() == ["一", "三"]
    assert kinds(pool) == {"rejected": 1}


def test_reasoning_that_is_left_out_is_said(read):
    for row in CHATS["reasoning"]:
        assert kinds(read([row], reasoning="drop")) == {"reasoning_dropped": 1}


def test_rows_of_a_table_show_the_same(tmp_path):
    rows = pa.table(
        {
            "messages": [
                [{"role": "user", "content": "q", "tool_calls": None},
                 {"role": "assistant", "content": "a", "tool_calls": None}],
                [{"role": "user", "content": None, "tool_calls": None},
                 {"role": "assistant", "content": "a", "tool_calls": None}],
                [{"role": "user", "content": "q", "tool_calls": None},
                 {"role": "assistant", "content": None, "tool_calls": '[{"name": "f"}]'}],
            ],
            "image": [{"bytes": b"png"}, None, None],
            "videos": [[], ["a.mp4"], None],
            "thumbs_up": [None, None, True],
            "functions": [None, '[{"name": "f"}]', None],
        }
    )  # fmt: skip
    pq.write_table(rows, tmp_path / "rows.parquet")
    pool = didact.read(tmp_path / "rows.parquet", cache_dir=tmp_path / "cache")
    assert kinds(pool) == {"null_turn": 1, "images": 1, "video": 1, "tools": 2, "unread_label": 1}
    assert {found.kind: found.first[-1] for found in pool.findings} == {
        "null_turn": "2", "images": "1", "video": "2", "tools": "2", "unread_label": "3",
    }  # fmt: skip


def test_what_is_named_in_drop_is_left_out_and_listed(read, tmp_path):
    rows = [FINE, asked("q", ""), {**asked("q2", "a"), "id": "x"}, said(("user", "u"))]
    pool = read(rows, drop=["empty_answer", "no_answer"])
    assert len(pool) == 2
    assert kinds(pool) == {"rejected": 2}
    listed = [json.loads(line) for line in (pool.path / "rejected.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in listed] == [2, 4]
    assert listed[0]["reason"] == (
        "data.drop: empty_answer: the row has an answer without text: nothing to learn"
    )
    assert kinds(read(rows, drop=["images"]))["nothing_matched"] == 0
    with pytest.raises(ConfigError, match="drop"):
        read(rows, drop=["reasoning"])


def test_every_setting_that_is_offered_is_one():
    for kind, (_, remedy) in SAYINGS.items():
        setting = remedy.split(": ")[0].split(".")[1] if remedy else "drop"
        assert setting in DataSettings.model_fields, kind
        if kind in DROPPABLE:
            DataSettings(drop=[kind])


def test_findings_stay_with_the_pool_and_have_a_json_form(read, tmp_path):
    rows = [FINE, asked("q", "", source="s")]
    first = read(rows)
    again = didact.read(tmp_path / "rows.jsonl", cache_dir=tmp_path / "cache")
    assert first.findings == again.findings != ()
    stored = type(first)(first.path, first.fingerprint)
    assert stored.findings == first.findings
    values = [finding.to_json() for finding in first.findings]
    assert findings_of(TypeAdapter(list[dict]).validate_json(json.dumps(values))) == first.findings
    renamed = tmp_path / "other.jsonl"
    (tmp_path / "rows.jsonl").rename(renamed)
    assert didact.read(renamed, cache_dir=tmp_path / "cache").findings[0].first == (
        "other.jsonl row 2"
    )


def test_a_finding_is_one_line():
    assert str(Finding("k", 1, "", "1 row is odd", "")) == "1 row is odd"
    assert str(Finding("k", 1, "a row 2", "1 row is odd", "data.x: y")) == (
        "1 row is odd (first: a row 2); data.x: y"
    )


SAID = FINE["messages"][1]
SHOWN = [
    {**FINE, "images": ["صورة.png"]},
    {**FINE, "images": ["图.png"]},
    {**FINE, "images": ["图.png", "صورة.png"]},
    {**FINE, "image": {"path": "图.png"}},
    {**FINE, "videos": ["图.png"]},
    *(
        {"messages": [{"role": "user", "content": [{"type": kind, kind: {"url": url}}]},
                      {"role": "assistant", "content": "好"}]}
        for kind in ("image_url", "file") for url in ("a", "b")
    ),
    {**FINE, "functions": [{"name": "طقس"}]},
    {**FINE, "functions": [{"name": "天气"}]},
]  # fmt: skip


def test_rows_with_other_images_or_tools_are_no_copies(read):
    pool = read([FINE, *SHOWN, *SHOWN[::-1]])
    assert kinds(pool)["duplicates"] == len(SHOWN)
    odd = {"messages": [{"role": "user", "content": [{"type": [], "text": "q"}]}, SAID]}
    assert kinds(read([odd | {"image": "猫"}], "odd.jsonl")) == {"images": 1}
    ids = pool.read(range(len(pool)), ["id"]).column(0).to_pylist()
    n = len(SHOWN)
    assert {i.removesuffix("~2") for i in ids[n + 1 :]} == set(ids[1 : n + 1])


def test_an_image_is_the_same_whether_its_column_is_named_or_not(read):
    rows = [{**FINE, "image": "猫"}, {**FINE, "images": "猫"}]
    ids = [
        read(rows[:1], columns={"images": "image"}).read([0], ["id"]),
        read(rows[1:], "other.jsonl").read([0], ["id"]),
    ]
    assert ids[0] == ids[1]


def test_images_of_a_table_tell_rows_apart_as_those_of_lines_do(read, tmp_path):
    rows = [{**FINE, "images": [name]} for name in ("图", "صورة", "图")]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    table, lines = didact.read(path), read(rows)
    assert kinds(table) == kinds(lines) == {"images": 3, "duplicates": 1}
    assert table.read(range(3), ["id"]) == lines.read(range(3), ["id"])
    inside = [{**FINE, "images": [{"bytes": name.encode(), "path": None}]} for name in "猫狗猫"]
    pq.write_table(pa.Table.from_pylist(inside), path)
    assert kinds(didact.read(path)) == {"images": 3, "duplicates": 1}


def test_pairs_without_a_prompt_are_said(read):
    pool = read([{"frage": "ما العاصمة؟", "chosen": "好", "rejected": "坏"},
                 {"frage": "q", "chosen": "the answer is a", "rejected": "the answer is b"}])  # fmt: skip
    (finding,) = pool.findings
    assert (finding.kind, finding.count) == ("pair_unasked", 1)
    named = read([{"frage": "q", "chosen": "a", "rejected": "b"}], columns={"prompt": "frage"})
    assert kinds(named) == {}
