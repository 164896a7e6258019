"""Folders of `datasets` and of the hub's cache: which files are the data."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pytest
from pyarrow import feather

import didact
from didact.core.errors import DataError
from didact.data.reading.discovery import expand


def arrow(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    feather.write_feather(pa.table({"text": list(texts)}), path, compression="uncompressed")


def saved(folder, *names, **more):
    folder.mkdir(exist_ok=True)
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, **more}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))


def test_results_that_datasets_keeps_are_no_data(tmp_path):
    saved(tmp_path, "data-00000-of-00002.arrow", "data-00001-of-00002.arrow")
    for name in ("data-00001-of-00002", "data-00000-of-00002", "cache-8c67bd5d038de8e2", "other"):
        arrow(tmp_path / f"{name}.arrow", name)
    names = [file.name for file in expand([tmp_path])]
    assert names == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert [f.count for f in didact.read(tmp_path).findings if f.kind == "files_skipped"] == [2]


def test_a_description_that_nobody_can_walk_describes_nothing(tmp_path):
    saved(tmp_path, "data.arrow")
    for name in ("data", "other"):
        arrow(tmp_path / f"{name}.arrow", name)
    assert [file.name for file in expand([tmp_path])] == ["data.arrow"]
    for text in ("[" * 100_000, '{"_data_files": ' * 600 + "1" + "}" * 600):
        (tmp_path / "state.json").write_text(text)
        assert [file.name for file in expand([tmp_path])] == ["data.arrow", "other.arrow"]
    (tmp_path / "state.json").write_bytes(b'{"_data_files": "\xff"}')
    assert [file.name for file in expand([tmp_path])] == ["data.arrow", "other.arrow"]
    os.truncate(tmp_path / "state.json", 2**26 + 1)
    assert [file.name for file in expand([tmp_path])] == ["data.arrow", "other.arrow"]


def test_a_folder_that_was_saved_with_indices_is_refused(tmp_path):
    saved(tmp_path, "data.arrow", _indices_files=[{"filename": "indices.arrow"}])
    arrow(tmp_path / "data.arrow", "a")
    with pytest.raises(DataError, match="was saved with indices"):
        expand([tmp_path])


def test_the_cache_of_datasets(tmp_path):
    folder = tmp_path / "json" / "default-107a" / "0.0.0" / "d78d"
    for name in ("json-train", "json-test", "cache-8fb193855f3875f2_00000_of_00002"):
        arrow(folder / f"{name}.arrow", name)
    arrow(folder.with_name("d78d.incomplete") / "json-train.arrow", "half")
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}, "splits": {}}))
    assert [file.path.name for file in expand([tmp_path])] == [
        "json-test.arrow",
        "json-train.arrow",
    ]
    kinds = [finding.kind for finding in didact.read(tmp_path).findings]
    assert "splits_mixed" in kinds


def repository(folder, *revisions):
    for revision in revisions:
        for split in ("train", "test"):
            blob = folder / "blobs" / f"{revision}{split}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_text(json.dumps({"text": f"{split} of {revision}"}) + "\n")
            link = folder / "snapshots" / revision / "data" / f"{split}.jsonl"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
    (folder / "refs").mkdir()
    return folder


def texts(path):
    pool = didact.read(path)
    rows = [json.loads(row)["text"] for row in pool.records(range(len(pool)))]
    return rows, [f.text for f in pool.findings if f.kind in {"snapshots", "files_skipped"}]


def test_a_repository_of_the_hub_is_its_main_snapshot(tmp_path):
    folder = repository(tmp_path / "datasets--a--b", "r1", "r2")
    with pytest.raises(DataError, match="with the snapshots r1, r2; expected one"):
        didact.read(folder)
    (folder / "refs" / "main").write_text("r2")
    said = "1 other snapshot of the repository is not read: the one that refs/main names is"
    assert texts(folder) == (["test of r2", "train of r2"], [said])
    (folder / "refs" / "main").write_bytes(b"../../\xff")
    with pytest.raises(DataError, match="expected one"):
        didact.read(folder)
    (folder / "refs" / "main").write_text("r2" + " " * 5000)  # no name is so long
    with pytest.raises(DataError, match="expected one"):
        didact.read(folder)
    assert texts(folder / "snapshots" / "r1")[0] == ["test of r1", "train of r1"]
    assert texts(repository(tmp_path / "other", "r3")) == (["test of r3", "train of r3"], [])


def test_what_datasets_writes(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(6)]})
    whole.shuffle(seed=1).save_to_disk(tmp_path / "one", num_shards=2)
    datasets.load_from_disk(tmp_path / "one").map(lambda row: {"n": 1})
    assert len(list((tmp_path / "one").glob("*.arrow"))) == 3  # the third is the result of `map`
    pool = didact.read(tmp_path / "one")
    assert pool.to_dataset()["text"] == datasets.load_from_disk(tmp_path / "one")["text"]
    datasets.DatasetDict(train=whole, dev=whole).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match=r"holds the splits dev, train.*two/train"):
        didact.read(tmp_path / "two")
