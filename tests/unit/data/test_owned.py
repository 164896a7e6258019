"""A folder of exports: the last one's files and no other's, and nobody else's are touched."""

import multiprocessing
import sys

import pytest

from didact.core.errors import ConfigError, DataError
from didact.data.export.owned import LIST, owned


def export(folder, *names, text="rows\n", fail=False, name="train"):
    with owned(folder, name, "validation") as written:
        for each in names:
            (folder / each).parent.mkdir(exist_ok=True)
            (folder / each).write_text(text)
        if fail:
            raise KeyboardInterrupt
        written([folder / each for each in names])


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_an_earlier_export_left_goes(tmp_path):
    out = tmp_path / "deep" / "out"
    export(out, "train-00000-of-00003.jsonl", "train-00001-of-00003.jsonl", "settings/trl.yaml")
    (out / "README.md").write_text("mine")
    export(out, "train-00000-of-00001.jsonl", "validation.jsonl")
    assert names(out) == [
        LIST, "README.md", "train-00000-of-00001.jsonl", "validation.jsonl",
    ]  # fmt: skip
    assert not (out / "settings").exists()
    export(out, "train.parquet", "settings/trl.yaml")
    (out / "settings" / "mine.yaml").write_text("")
    (out / "settings" / "trl.yaml").write_text("edited")  # stays where it would be lost
    export(out, "train.parquet")
    assert names(out) == [
        LIST, "README.md", "settings/mine.yaml", "settings/trl.yaml", "train.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["train.jsonl", "train-00007-of-00009.parquet", "validation.jsonl"]
)
def test_data_that_no_export_wrote_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=rf"{name}: is no file of an earlier export.*-o"):
        export(tmp_path, "train.jsonl")
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_data_that_was_changed_is_refused(tmp_path):
    export(tmp_path, "train.jsonl")
    (tmp_path / "train.jsonl").write_text("rows\nand mine\n")
    with pytest.raises(DataError, match=r"train.jsonl: was changed since it was exported"):
        export(tmp_path, "train.jsonl")


def test_names_that_only_resemble_data_are_others(tmp_path):
    for name in ("train.txt", "trained.jsonl", "train-notes.jsonl"):
        (tmp_path / name).write_text("mine")
    export(tmp_path, "train.jsonl")
    export(tmp_path, "train.parquet")
    assert names(tmp_path) == [
        LIST, "train-notes.jsonl", "train.parquet", "train.txt", "trained.jsonl",
    ]  # fmt: skip


def test_an_interrupted_export_is_in_nobody_s_way(tmp_path):
    export(tmp_path, "train.jsonl")
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, "train-00000-of-00002.jsonl", fail=True)
    export(tmp_path, "train-00000-of-00001.jsonl")
    assert names(tmp_path) == [LIST, "train-00000-of-00001.jsonl"]


def test_a_list_that_was_changed_removes_nothing(tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("mine")
    out = tmp_path / "out"
    export(out, "train.jsonl")
    (out / LIST).write_text((out / LIST).read_text().replace("train.jsonl", "../other.jsonl"))
    with pytest.raises(DataError, match="was changed or damaged"):
        export(out, "train.parquet")
    assert other.read_text() == "mine"


def _try(folder, line):
    try:
        export(folder, "train.jsonl")
        line.send("")
    except ConfigError as error:
        line.send(str(error))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_exports_into_one_folder(tmp_path):
    how = multiprocessing.get_context("fork")
    ours, theirs = how.Pipe()
    with owned(tmp_path, "train", "validation") as written:
        other = how.Process(target=_try, args=(tmp_path, theirs))
        other.start()
        assert "another command is writing there; wait for it" in ours.recv()
        other.join()
        (tmp_path / "train.jsonl").write_text("rows\n")
        written([tmp_path / "train.jsonl"])
    assert names(tmp_path) == [LIST, "train.jsonl"]


def test_exports_of_other_names_stay(tmp_path):
    export(tmp_path, "train-00000-of-00002.jsonl", "validation.jsonl", "settings/trl.yaml")
    export(tmp_path, "later.jsonl", "settings/trl.yaml", name="later")
    export(tmp_path, "train.jsonl")
    assert names(tmp_path) == [LIST, "later.jsonl", "settings/trl.yaml", "train.jsonl"]
    export(tmp_path, "later.parquet", name="later")
    assert names(tmp_path) == [LIST, "later.parquet", "train.jsonl"]
