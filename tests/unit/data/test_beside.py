"""Files of a folder that are not read, and splits that are mixed, from their names alone."""

import json

import pytest

import didact
from didact.data.reading.splits import split_of


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of files of one text each; gives its path."""

    def made(*names):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"text": f"这是 {name}"}))
        return tmp_path / "data"

    return made


def found(folder, **settings):
    cache = folder.parent / "cache"
    return {f.kind: f for f in didact.read(folder, cache_dir=cache, **settings).findings}


def test_files_that_are_not_read_are_counted_by_their_ending(folder):
    read = found(folder("a.jsonl", "b.xml", "sub/c.xml", "sub/d.png", "notes", "README.md",
                        "LICENSE", ".hidden/x.bin", "dataset_info.json"))  # fmt: skip
    skipped = read["files_skipped"]
    assert (skipped.count, skipped.first) == (4, "b.xml")
    assert skipped.text == "4 files are not read (.xml 2, without ending 1, .png 1)"


@pytest.mark.parametrize(
    "names",
    [
        ("a.jsonl", "b.jsonl"),
        ("train.jsonl", "train-extra.jsonl"),
        ("test.jsonl", "validation.jsonl"),  # of one data set there is no other split here
        ("trains.jsonl", "contest.jsonl"),
        ("training_guide.jsonl", "attestation.jsonl"),
        ("latest.jsonl", "b.jsonl"),
        ("eval.jsonl",),
        ("eval/a.jsonl", "eval/b.jsonl"),
        ("dev-tools.jsonl", "test_prep.jsonl", "b.jsonl"),  # of what they are about
        ("valid.jsonl", "invalid.jsonl"),
    ],
)
def test_nothing_is_said_of_a_folder_of_one_split(names, folder):
    assert found(folder(*names)) == {}


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"), 1),
        (("x_train.jsonl", "x_validation.jsonl", "x_test.jsonl"), 2),
        (("train/a.jsonl", "dev/a.jsonl"), 1),
        (("en.train.jsonl", "en.val.jsonl"), 1),
        (("training.jsonl", "testing.jsonl"), 1),
        (("TRAIN/a.jsonl", "Evaluation/a.jsonl", "holdout_set/a.jsonl"), 2),
        (("trainset.jsonl", "devset.jsonl", "validate-1.jsonl"), 2),
        (("a_test.jsonl", "b.jsonl"), 1),
        (("default/a.jsonl", "eval/a.jsonl", "eval/b.jsonl"), 2),
        (("b.jsonl", "development-00000-of-00001.jsonl"), 1),
    ],
)
def test_mixed_splits_are_said_with_the_setting_that_parts_them(names, held, folder):
    home = folder(*names)
    mixed = found(home)["splits_mixed"]
    assert mixed.count == held
    train, test = (part.split("]")[0].split(", ") for part in mixed.remedy.split("[")[1:3])
    parted = didact.read(train, exclude=test, cache_dir=home.parent / "cache")
    assert len(parted) == len(names) - held
    assert not [f for f in parted.findings if f.kind == "splits_mixed"]


def test_files_of_a_split_among_files_of_none_are_told_with_their_number(folder):
    mixed = found(folder("a_test.jsonl", "b.jsonl", "c.jsonl"))["splits_mixed"]
    assert mixed.text == "1 file of another split (test) is in the pool beside 2 other files"


def test_many_shards_are_named_by_a_glob_that_names_no_other_file(folder):
    shards = [f"train-{i:05}-of-00012.jsonl" for i in range(12)]
    home = folder(*shards, "test-00000-of-00001.jsonl")
    remedy = found(home)["splits_mixed"].remedy
    assert f"data.path: [{home}/train-*.jsonl] with" in remedy


def test_a_finding_goes_when_its_file_goes(folder):
    home = folder("a.jsonl", "b.xml")
    assert "files_skipped" in found(home)
    (home / "b.xml").unlink()
    assert found(home) == {}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("a/train-1.parquet", "train"),
        ("x.held-out.jsonl", "held-out"),
        ("test/part-1.jsonl", "test"),
        ("train/test.jsonl", "test"),
        ("latest.jsonl", ""),
        ("TRAIN_2.jsonl", "train"),
        ("test." * 200_000 + "!/a.json", "test"),
    ],
)
def test_the_split_is_the_one_nearest_to_the_row(name, split):
    assert split_of(name) == split
