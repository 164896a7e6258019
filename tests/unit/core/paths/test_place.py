"""What a user gives becomes a place: a path of this machine, or what lies behind a URL."""

import pickle
from pathlib import Path, PurePosixPath

import pytest

from didact.core.errors import ConfigError, DataError, MissingDependencyError
from didact.core.paths import RemotePath, is_url, local, masked, masked_values, place


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("pool.jsonl", Path("pool.jsonl")),
        ("C:/data/pool.jsonl", Path("C:/data/pool.jsonl")),
        ("C://data/pool.jsonl", Path("C://data/pool.jsonl")),
        ("file:///data/a%20b.jsonl", Path("/data/a b.jsonl")),
        ("file://localhost/data/x", Path("/data/x")),
        (Path("~/x"), Path.home() / "x"),
        ("~/x", Path.home() / "x"),
    ],
)
def test_a_path_of_this_machine(given, path):
    assert place(given) == path
    assert not is_url(given)


@pytest.mark.parametrize(
    ("given", "scheme", "root", "key", "query"),
    [
        ("s3://bucket/dir/x.jsonl", "s3", "bucket", "dir/x.jsonl", ""),
        ("S3://bucket/dir/", "s3", "bucket", "dir", ""),
        ("s3://bucket/part-?.jsonl", "s3", "bucket", "part-?.jsonl", ""),
        ("gcs://bucket/x", "gs", "bucket", "x", ""),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs", "c@a.dfs.core.windows.net", "x", ""),
        ("hf://datasets/org/name@v1.0/x", "hf", "datasets", "org/name@v1.0/x", ""),
        ("https://host/a/x.jsonl?download=1", "https", "host", "a/x.jsonl", "?download=1"),
        ("memory://a/x", "memory", "a", "x", ""),
    ],
)
def test_a_url(given, scheme, root, key, query):
    found = place(given)
    assert found == RemotePath(scheme, root, key, query)
    assert is_url(given)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    assert len({found, place(given)}) == 1


def test_the_interface_of_paths():
    path = place("s3://bucket/dir/pool-0.jsonl.zst")
    assert (path.name, path.stem, path.suffixes) == (
        "pool-0.jsonl.zst",
        "pool-0.jsonl",
        [".jsonl", ".zst"],
    )
    assert str(path.parent) == "s3://bucket/dir"
    assert [str(p) for p in path.parents] == ["s3://bucket/dir", "s3://bucket"]
    assert path.parent / "pool-0.jsonl.zst" == path == path.with_name(path.name)
    assert path.relative_to(place("s3://bucket")) == PurePosixPath("dir/pool-0.jsonl.zst")
    with pytest.raises(ValueError, match="does not lie in"):
        path.relative_to(place("s3://other"))
    assert place("https://h/a/b.csv?token=abc").name == "b.csv"
    # as pathlib sorts: name by name, not character by character
    names = ["b/a-1/x", "b/a/x"]
    assert sorted(place(f"s3://{n}") for n in names) == [place("s3://b/a/x"), place("s3://b/a-1/x")]
    assert sorted(map(Path, names)) == [Path("b/a/x"), Path("b/a-1/x")]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ("s3:///x", DataError, "names no bucket or host; expected s3://NAME/PATH"),
        ("file://host/x", DataError, "expected file:///PATH"),
        (Path("s3://b/x"), DataError, "is a pathlib.Path of a URL"),
        ("https://h/x?token=***", DataError, "were left out where it was written down"),
        ("s3://***@b/x", DataError, "were left out where it was written down"),
    ],
)
def test_what_is_no_place(given, error, match):
    with pytest.raises(error, match=match):
        place(given)


@pytest.mark.parametrize("given", ["s3://b/out", Path("s3://b/out"), Path("hf:/datasets/x")])
def test_what_is_written_lies_on_a_disk(given):
    with pytest.raises(
        ConfigError, match="the run folder: (s3|hf)://.* is a URL; expected a path of this machine"
    ):
        local(given, "the run folder")
    assert local("~/out", "the run folder") == Path.home() / "out"


def test_an_unknown_scheme():
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match=r"s4:// is no scheme that is known; expected s3, gs"):
        place("s4://bucket/x").exists()


def test_an_azure_url_without_an_account(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        place("az://container/x").exists()


def test_a_missing_driver_is_an_instruction(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # a store of this environment alone
    with pytest.raises(MissingDependencyError, match=r"pip install 'didact\[remote\]'"):
        place("hf://datasets/a/b").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://AKID:SECRET@bucket/x", "s3://***@bucket/x"),
        ("https://user:pw@host/x?a=1", "https://***@host/x?a=1"),
        ("https://token@host/x", "https://***@host/x"),
        (
            "https://h/x?X-Amz-Algorithm=AWS4&X-Amz-Credential=AK%2F1&X-Amz-Signature=ab12&v=2",
            "https://h/x?X-Amz-Algorithm=AWS4&X-Amz-Credential=***&X-Amz-Signature=***&v=2",
        ),
        (
            "https://a.blob.core.windows.net/c/x?sv=1&sig=Zm9v%3D",
            "https://a.blob.core.windows.net/c/x?sv=1&sig=***",
        ),
        ("hf://datasets/org/name@main/x", "hf://datasets/org/name@main/x"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs://c@a.dfs.core.windows.net/x"),
        ("mail a@b.org about s3://k:s@b/x, please", "mail a@b.org about s3://***@b/x, please"),
        ("no URL at all: key=value", "no URL at all: key=value"),
    ],
)
def test_credentials_are_masked(given, said):
    assert masked(given) == said
    assert masked_values({"a": [given, 1]}) == {"a": [said, 1]}
    if "://" in given and " " not in given:
        path = place(given)
        assert str(path) == said == path.as_posix()
        assert repr(path) == f"RemotePath({said!r})"
        assert path.url == given
