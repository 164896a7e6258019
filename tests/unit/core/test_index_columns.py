"""Numeric columns: read when they are asked for, what was written, and verified."""

import numpy as np
import pyarrow as pa
import pytest

from didact.core.checksums import CheckedFile, Checksums
from didact.core.errors import DamagedError
from didact.core.index_columns import IndexColumns

N = 100_000
WRITTEN = {
    "n_bytes": np.arange(N),
    "source": np.arange(N, dtype=np.int32) % 7,
    "held": np.arange(N) % 3 == 0,
}


@pytest.fixture
def file(tmp_path) -> CheckedFile:
    whole = pa.RecordBatch.from_pydict({name: pa.array(v) for name, v in WRITTEN.items()})
    with pa.ipc.new_file(str(tmp_path / "index.arrow"), whole.schema) as out:
        for at in range(0, N, 40_000):
            out.write_batch(whole.slice(at, 40_000))
    return CheckedFile(tmp_path / "index.arrow", Checksums.of(tmp_path / "index.arrow"))


def test_columns_are_what_was_written_and_cannot_be_changed(file):
    columns = IndexColumns(file, N)
    for name, values in WRITTEN.items():
        assert columns[name].dtype == values.dtype
        assert np.array_equal(columns[name], values)
        assert columns[name] is columns[name]
        with pytest.raises(ValueError, match="read-only"):
            columns[name][0] = 1
    with pytest.raises(KeyError, match="none"):
        columns["none"]


def test_only_what_is_asked_for_is_read(file, monkeypatch):
    columns = IndexColumns(file, N)
    columns["source"]
    assert list(columns) == ["source"]
    asked = []
    seen = CheckedFile.read_from

    def read_from(self, descriptor, start=0, stop=None):
        asked.append((stop or 0) - start)
        return seen(self, descriptor, start, stop)

    monkeypatch.setattr(CheckedFile, "read_from", read_from)
    columns["source"]
    assert not asked
    columns["held"]
    assert sum(asked) < 8 * N / 2  # a bit a row and what describes it, not the numbers


def test_a_damaged_column_is_noticed_when_it_is_asked_for(file):
    data = bytearray(file.path.read_bytes())
    data[2**18 + 5] ^= 1  # of n_bytes in the first batch
    file.path.write_bytes(data)
    columns = IndexColumns(file, N)
    with pytest.raises(DamagedError, match="checksum"):
        columns["n_bytes"]
