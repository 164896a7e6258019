"""Formats and trainers of an installed package: found by name, listed, and read again when edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from didact.core import registry

FORMAT = """
from didact.data.rows.format import Format
from didact.data.rows.columns import require_text

def turns(row, columns):
    return [(0, "user", require_text(row, columns, "riddle"), 0.0),
            (0, "assistant", "It is " + require_text(row, columns, "answer"), 1.0)]

READ_ROW = '''
def read_row(row):
    return {"prompt": column(row, "riddle"), "completion": column(row, "answer")}
'''
FORMAT = Format(kind="chat", content=("riddle", "answer"), turns=turns, read_row=READ_ROW)
"""
TRAINER = """
def write_files(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.txt").write_text(" ".join(data.data_files))
    return [folder / "mine.txt"]
"""
POINTS = """\
[didact.formats]
riddle = my_plug_in.riddle:FORMAT
[didact.trainers]
mine = my_plug_in.mine:write_files
"""


@pytest.fixture
def run(tmp_path):
    site = tmp_path / "site"
    package, about = site / "my_plug_in", site / "my_plug_in-0.1.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text("")
    (package / "riddle.py").write_text(FORMAT)
    (package / "mine.py").write_text(TRAINER)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plug-in\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(POINTS)
    rows = [{"riddle": f"r{i}?", "solution": f"s{i}"} for i in range(5)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def python(code: str) -> str:
        path = os.pathsep.join([str(site), *sys.path])
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": path, "DIDACT_CACHE": "cache"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return package, python


READ = """
import didact
pool = didact.read("pool.jsonl", columns={"answer": "solution"})
print(pool.meta["formats"], pool.read([1], ["text"]).column(0)[0])
"""


def test_a_format_is_found_by_its_rows_and_read_again_when_it_was_edited(run):
    package, python = run
    assert python(READ) == "['riddle'] r1?\nIt is s1\n"
    (package / "riddle.py").write_text(FORMAT.replace("It is", "Surely"))
    assert python(READ) == "['riddle'] r1?\nSurely s1\n"


LISTS = """
import didact, json
from didact.config import json_schema
from didact.core.errors import DidactError
print(json.dumps(json_schema()["$defs"]["DataConfig"]["properties"]["format"]["enum"]))
print(json.dumps(json_schema()["$defs"]["ExportSettings"]["properties"]["for"]["enum"]))
for settings in ({"format": "ridle"}, {"columns": {"ridle": "x"}}, {"columns": {"riddle": "none"}}):
    try:
        didact.read("pool.jsonl", **settings)
    except DidactError as error:
        print(error)
"""


def test_names_are_listed_with_those_of_didact(run):
    _, python = run
    formats, trainers, *messages = python(LISTS).splitlines()
    built_in = {group: [n for n, place in registry.known(group).items() if "didact." in place]
                for group in ("formats", "trainers")}  # fmt: skip
    assert json.loads(formats) == ["auto", *built_in["formats"], "riddle"]
    assert json.loads(trainers) == ["none", *sorted([*built_in["trainers"], "mine"])]
    assert f"'{built_in['formats'][-1]}' or 'riddle'; got 'ridle'" in messages[0]
    assert "unknown name 'ridle'; did you mean 'riddle'" in messages[1]
    assert f"expected one of {', '.join([*built_in['formats'], 'riddle'])}" in messages[2]


EXPORT = """
import didact
import numpy as np
pool = didact.read("pool.jsonl", columns={"answer": "solution"})
order = didact.TrainingOrder(np.arange(5), pool.fingerprint, "keep")
for trainer in ("mine", "hf"):
    print([str(p) for p in didact.export(pool, order, f"out/{trainer}", trainer=trainer)])
"""


def test_a_trainer_is_told_what_was_written_and_scripts_read_the_format(run, tmp_path):
    _, python = run
    mine, hf = python(EXPORT).splitlines()
    assert mine == "['out/mine/train.jsonl', 'out/mine/settings/mine.txt']"
    assert (tmp_path / "out/mine/settings/mine.txt").read_text() == "train.jsonl"
    files = ["train.jsonl", "settings/hf.yaml", "settings/train_hf.py"]
    assert hf == str([f"out/hf/{name}" for name in files])
    assert 'column(row, "riddle")' in (tmp_path / "out/hf/settings/train_hf.py").read_text()


MIXED = """
import didact
import numpy as np
from pathlib import Path
Path("other.jsonl").write_text('{"prompt": "p", "completion": "c"}\\n')
pool = didact.read(["pool.jsonl", "other.jsonl"], columns={"answer": "solution"})
order = didact.TrainingOrder(np.arange(6), pool.fingerprint, "keep")
try:
    didact.export(pool, order, "out", trainer="trl")
except didact.DidactError as error:
    print(error)
"""


def test_formats_that_no_script_reads_together_are_refused(run):
    _, python = run
    assert "no training script reads rows of riddle, prompt_completion" in python(MIXED)


RUN = """
from didact.pipeline import run
config = {"data": {"path": "pool.jsonl", "columns": {"answer": "solution"}}, "export": {"for": "mine"}}
run(config, "run")
"""


def test_an_edited_trainer_writes_its_files_again(run, tmp_path):
    package, python = run
    python(RUN)
    written = tmp_path / "run/settings/mine.txt"
    assert written.read_text() == "train.jsonl"
    (package / "mine.py").write_text(
        TRAINER.replace('" ".join', '"new ".join').replace(
            "(data.data_files)", "([*data.data_files, ''])"
        )
    )
    python(RUN)
    assert written.read_text() == "train.jsonlnew "
