"""Records: read back as written, and only for what they are of."""

from __future__ import annotations

from dataclasses import replace

from didact.comparing.records import Record, read_record, selection_flops, write_record
from didact.core.atomic import digest

RECORD = Record(name="bm25-0.5-0", key="k", status="done", training_flops=1e9, tokens=7)


def test_read_back(tmp_path):
    write_record(RECORD, tmp_path)
    assert read_record(tmp_path, RECORD.name, "k") == RECORD
    assert read_record(tmp_path, RECORD.name, "another") is None
    assert read_record(tmp_path, "other", "k") is None


def test_a_record_without_its_table_does_not_count(tmp_path):
    table = tmp_path / "e.parquet"
    table.write_bytes(b"table")
    record = replace(RECORD, evaluation="e.parquet", digest=digest(table))
    write_record(record, tmp_path)
    assert read_record(tmp_path, RECORD.name, "k") == record
    table.write_bytes(b"other")
    assert read_record(tmp_path, RECORD.name, "k") is None
    table.unlink()
    assert read_record(tmp_path, RECORD.name, "k") is None


def test_a_cut_record_does_not_count(tmp_path):
    write_record(RECORD, tmp_path)
    file = tmp_path / "arms" / f"{RECORD.name}.json"
    file.write_text(file.read_text()[:50])
    assert read_record(tmp_path, RECORD.name, "k") is None


def test_what_runs_share_is_spent_once():
    def record(own, **made):
        flops = own + sum(made.values())
        return replace(RECORD, selection_flops=flops, made={k: float(v) for k, v in made.items()})

    # two arms by one score, three seeds of each draw: scores of a draw's seed are its own
    assert selection_flops([record(1, p=100), record(2, p=100), record(0, q=30)]) == 133
    assert selection_flops([]) == 0
