"""LLaMA-Factory's dataset_info.json: which data set is meant, and how its rows are read."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import didact
from didact.core.errors import DataError

TAGS = {"role_tag": "who", "content_tag": "said", "user_tag": "user", "assistant_tag": "assistant"}
ENTRIES = {
    "plain": ({}, {"instruction": "q", "output": "a"}),
    "named": (
        {"columns": {"prompt": "ask", "query": "with", "response": "say", "system": "sys", "history": "old"}},
        {"ask": "q", "with": "x", "say": "a", "sys": "s", "old": [["p", "r"]], "output": "wrong"},
    ),
    "text": ({"columns": {"prompt": "body"}}, {"body": "b", "output": "wrong"}),
    "sharegpt": ({"formatting": "sharegpt"}, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
    "openai": ({"formatting": "openai", "columns": {"messages": "talk"}, "tags": TAGS}, {"talk": [{"who": "user", "said": "q"}, {"who": "assistant", "said": "a"}]}),
    "pair": ({"ranking": True, "columns": {"prompt": "ask", "query": "with", "chosen": "c", "rejected": "r"}}, {"ask": "q", "with": "x", "c": "a", "r": "b", "prompt": "wrong"}),
    "chat_pair": ({"ranking": True, "formatting": "sharegpt"}, {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}),
    "kto": ({"columns": {"prompt": "prompt", "response": "say", "kto_tag": "good"}}, {"prompt": "q", "say": "a", "good": True}),
    "chat_kto": ({"formatting": "sharegpt", "columns": {"kto_tag": "good"}}, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "good": False}),
}  # fmt: skip
# format, prompt and completion of each
READ = {
    "plain": ("alpaca", "q", "a"),
    "named": ("alpaca", "s\np\nq\nx", "r\na"),
    "text": ("text", "", "b"),
    "sharegpt": ("messages", "q", "a"),
    "openai": ("messages", "q", "a"),
    "pair": ("preference", "q\nx", "a"),
    "chat_pair": ("preference", "q", "a"),
    "kto": ("labelled", "q", "a"),
    "chat_kto": ("labelled", "q", "a"),
}


@pytest.fixture
def data(tmp_path):
    entries = {}
    for name, (entry, row) in ENTRIES.items():
        entries[name] = {"file_name": f"{name}.json", **entry}
        (tmp_path / f"{name}.json").write_text(json.dumps([row]))
    entries["far"] = {"hf_hub_url": "a/b"}
    entries["odd"] = {"file_name": "sharegpt.json", "formatting": "sharegpt", "tags": {"user_tag": "PERSON"}}  # fmt: skip
    entries["some"] = {"file_name": "plain.json", "num_samples": 7}
    (tmp_path / "dataset_info.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.mark.parametrize("name", READ)
def test_columns_are_mapped_as_the_entry_says(data, name):
    pool = didact.read(f"{data}/dataset_info.json#{name}")
    found = pool.read([0], ["prompt", "completion"]).to_pylist()[0]
    assert (pool.meta["formats"][0], found["prompt"], found["completion"]) == READ[name]
    assert didact.read(f"{data}#{name}").fingerprint == pool.fingerprint


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "",
            r"names 12 data sets; here are the rows of plain, .*say which, e.g. .*info.json#plain",
        ),
        ("/dataset_info.json", "names 12 data sets"),
        ("#palin", "has no data set 'palin'; did you mean 'plain'"),
        ("#far", r"rows of 'far' are not in a file \(hf_hub_url 'a/b'\)"),
        ("#odd", r"'odd' calls the role user 'PERSON' \(user_tag\)"),
        ("/plain.json#x", "is no dataset_info.json of LLaMA-Factory with a data set 'x'"),
        ("/none.json#x", "none.json#x: no such file"),
    ],
)
def test_which_data_set_is_meant(data, path, message):
    with pytest.raises(DataError, match=message):
        didact.read(f"{data}{path}")


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_images_in_a_column_that_the_entry_names_are_counted(tmp_path, ending):
    rows = [
        {"instruction": "q", "output": "a", "pics": pics} for pics in (["a.png"], ["b.png"], [])
    ]
    entry = {"file_name": f"d.{ending}", "columns": {"prompt": "instruction", "response": "output", "images": "pics"}}  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps({"d": entry}))
    if ending == "json":
        (tmp_path / "d.json").write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    pool = didact.read(f"{tmp_path}#d")
    assert {f.kind: (f.count, f.first) for f in pool.findings} == {
        "images": (2, f"d.{ending} row 1")
    }


def test_several_data_sets_with_the_same_columns(data):
    other = data / "copy" / "plain.json"
    other.parent.mkdir()
    other.write_text('[{"instruction": "and", "output": "this"}]')
    info = {"plain": {"file_name": "plain.json"}}
    (other.parent / "dataset_info.json").write_text(json.dumps(info))
    assert len(didact.read([f"{data}#plain", f"{other.parent}#plain"])) == 2
    with pytest.raises(DataError, match="not read with the same columns"):
        didact.read([f"{data}#sharegpt", f"{data}#openai"])
    with pytest.raises(DataError, match="not read with the same columns"):
        didact.read([f"{data}#named", data / "plain.json"])


def test_samples_that_the_entry_asks_for_are_not_what_is_read(data):
    (said,) = (f for f in didact.read(f"{data}#some").findings if f.kind == "num_samples")
    assert said.text == "some in dataset_info.json takes 7 samples of its rows (num_samples)"


def test_one_data_set_needs_no_name_and_settings_have_the_last_word(tmp_path):
    (tmp_path / "x.json").write_text('[{"ask": "q", "say": "a", "other": "o"}]')
    entry = {"file_name": "x.json", "columns": {"prompt": "ask", "response": "say"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"x": entry}))
    assert didact.read(tmp_path).read([0], ["completion"]).column(0).to_pylist() == ["a"]
    pool = didact.read(tmp_path, columns={"output": "other"})
    assert pool.read([0], ["completion"]).column(0).to_pylist() == ["o"]


@pytest.mark.parametrize(
    "more", [{"columns": 3}, {"columns": {"prompt": [1]}}, {"tags": {"role_tag": {}}}]
)
def test_entries_that_are_none(tmp_path, more):
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    entry = {"file_name": "x.json", "formatting": "sharegpt", "num_samples": "many", **more}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"x": entry}))
    with pytest.raises(DataError, match="expected objects of texts"):
        didact.read(tmp_path)


def test_a_data_set_of_the_library_datasets_is_no_such_file(tmp_path):
    (tmp_path / "dataset_info.json").write_text(
        '{"features": {"text": {}}, "builder_name": "json"}'
    )
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "odd#name.jsonl").write_text('{"text": "b"}\n')
    assert len(didact.read(tmp_path)) == 2
    assert len(didact.read(tmp_path / "odd#name.jsonl")) == 1


def test_the_files_of_llama_factory(tmp_path, real_data):
    for path in (real_data / "formats").glob("*.gz"):
        (tmp_path / path.name[:-3]).write_bytes(gzip.decompress(path.read_bytes()))
    read = {
        name: didact.read(f"{tmp_path}#{name}").meta["formats"]
        for name in ("identity", "glaive_toolcall_en_demo", "dpo_en_demo", "kto_en_demo", "wiki_demo", "c4_demo")
    }  # fmt: skip
    assert read == {
        "identity": ["alpaca"], "glaive_toolcall_en_demo": ["messages"], "dpo_en_demo": ["preference"],
        "kto_en_demo": ["labelled"], "wiki_demo": ["text"], "c4_demo": ["text"],
    }  # fmt: skip
