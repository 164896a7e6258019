"""Small files behind URLs are fetched ahead, and come in order; others are opened as they are."""

from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from didact.core.errors import DataError
from didact.core.paths import place
from didact.data.reading.ahead import AT_A_TIME, ahead, is_small
from didact.data.reading.discovery import describe
from didact.data.reading.files import File, chunks
from didact.data.reading.ingest import read_pool
from didact.data.reading.settings import DataSettings
from didact.data.reading.tables import table_batches
from didact.verbs import context


@pytest.fixture
def files(request):
    """Files of a store in memory: more than are fetched at a time."""
    fsspec = pytest.importorskip("fsspec")
    folder = f"/{request.node.name}"
    made = []
    for i in range(3 * AT_A_TIME):
        fsspec.filesystem("memory").pipe_file(f"{folder}/{i:02}.jsonl", b'{"i": %d}\n' % i)
        url = place(f"memory://{folder.strip('/')}/{i:02}.jsonl")
        made.append(File(url, "jsonl", "", n_bytes=url.stat().st_size))
    return made


def test_they_come_in_order_with_their_bytes(files):
    with closing(ahead(files)) as found:
        for i, (file, given) in enumerate(zip(found, files, strict=True)):
            assert file.held == b'{"i": %d}\n' % i
            assert file == given
            given.path.unlink()
            assert b"".join(chunks(file)) == file.held


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_are_read_of_the_bytes_that_were_fetched(kind, tmp_path):
    pytest.importorskip("fsspec")
    table = pa.table({"text": ["a", "b"]})
    write = pq.write_table if kind == "parquet" else pyarrow.feather.write_feather
    write(table, str(tmp_path / "x"))
    url = place(f"memory://ahead/x.{kind}")
    url.write_bytes((tmp_path / "x").read_bytes())
    with closing(ahead([File(url, kind, "", n_bytes=url.stat().st_size)])) as found:
        file = next(found)
        url.unlink()
        batches = list(table_batches(file, table.schema, batch_rows=1, batch_bytes=2**20))
    assert pa.Table.from_batches(batches) == table
    assert len(batches) == 2


def test_what_fails_fails_in_its_turn(files):
    files[AT_A_TIME + 2].path.unlink()
    seen = []
    with pytest.raises(DataError, match=r"18\.jsonl"), closing(ahead(files)) as found:
        seen.extend(file.path.name for file in found)
    assert seen == [file.path.name for file in files[: AT_A_TIME + 2]]


def test_large_ones_and_those_of_a_disk_are_opened_as_they_are_read(files, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"{}\n")
    others = [
        replace(describe(tmp_path / "x.jsonl"), n_bytes=3),
        replace(files[0], n_bytes=2**20 + 1),
        replace(files[0], n_bytes=0),  # of a server that does not say it
        replace(files[0], n_bytes=None),
    ]
    assert not any(map(is_small, others))
    assert [file.held for file in ahead(others)] == [None] * 4


@pytest.mark.s3
def test_tables_are_read_of_what_was_fetched(s3, tmp_path):
    for i in range(3):
        file = tmp_path / f"{i}.parquet"
        pq.write_table(pa.table({"text": [f"text {i} {j}" for j in range(5)]}), file)
        s3.put(f"pool/{file.name}", file.read_bytes())
    with pa.ipc.new_file(tmp_path / "3.arrow", pa.schema({"text": pa.string()})) as out:
        out.write(pa.record_batch({"text": ["text 3"]}))
    s3.put("pool/3.arrow", (tmp_path / "3.arrow").read_bytes())
    urls = [str(path) for path in place(f"{s3.url}/pool").iterdir()]
    s3.wire.seen.clear()
    pool = read_pool(urls, DataSettings(), context(cache_dir=tmp_path / "cache")).pool
    assert len(pool) == 16
    # to see what it is, for its schema, its rows and its hash
    assert [len(s3.wire.ranges(f"/{i}.")) for i in range(4)] == [4] * 4
