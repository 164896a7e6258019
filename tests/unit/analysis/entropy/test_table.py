"""The CSV of runs: columns, defaults, and every mistake with its place."""

from __future__ import annotations

import pytest

from didact.analysis.entropy.table import read_law_table
from didact.core.errors import DataError

HEAD = "run,ratio,first_epoch_loss,performance"


def written(folder, text):
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def test_all_columns(tmp_path):
    head = (
        f"{HEAD},tokens,bytes,mean_length,similarity,family,backbone,stage,deflate_ratio,loss_5,"
        "loss_10,dose,seed,set,tokenizer,held_out"
    )
    line = (
        "a,2.5,3.1,-1.9,1000,4000,120,0.4,random,1M,sft,2.1,4.0,3.5,copies×4,3,random+copies4,t,h"
    )
    ((run,), notes) = read_law_table(written(tmp_path, f"{head}\n{line}\n"))
    assert notes == ()
    assert (run.run, run.ratio, run.first_epoch_loss, run.performance) == ("a", 2.5, 3.1, -1.9)
    assert (run.tokens, run.bytes, run.mean_length, run.similarity) == (1000, 4000, 120, 0.4)
    assert (run.family, run.group, run.deflate_ratio) == ("random", ("1M", "sft"), 2.1)
    assert (run.early, run.dose, run.seed) == ({0.05: 4.0, 0.1: 3.5}, "copies×4", "3")
    assert (run.set, run.tokenizer, run.held_out) == ("random+copies4", "t", "h")


def test_sets_and_families_by_default(tmp_path):
    runs, _ = read_law_table(written(tmp_path, f"{HEAD}\n zip , 2,3,-1\n"))
    assert (runs[0].run, runs[0].set, runs[0].family, runs[0].dose) == ("zip", "zip", "zip", None)
    text = f"{HEAD},set\na,2,3,-1,random+copies4\n"
    ((run,), _) = read_law_table(written(tmp_path, text))
    assert (run.family, run.dose) == ("random", "copies4")
    text = (
        f"{HEAD},family,dose,seed\na,2,3,-1,random,,1\nb,2,3,-1,random,swap,1\nc,2,3,-1,random,,2\n"
    )
    runs, notes = read_law_table(written(tmp_path, text))
    assert [r.set for r in runs] == ["random", "random+swap", "random"]
    assert "runs of one family and dose were taken for seeds" in " ".join(notes)


def test_what_is_taken_for_granted_is_said(tmp_path):
    _, notes = read_law_table(written(tmp_path, f"{HEAD},flops,who\na,2,3,-1,9,x\nb,2,3,-1,9,y\n"))
    assert notes[0] == "runs.csv: 2 columns are not looked at: 'flops', 'who'."
    assert "neither set nor seed: each of its 2 runs is a set" in notes[1]
    assert "no column family" in notes[2]


def test_other_separators_and_breaks_within_names(tmp_path):
    for separator in ";\t":
        text = f"{HEAD}\na\u2028b\x0bc,2.5,3,-1\n".replace(",", separator)
        ((run,), _) = read_law_table(written(tmp_path, text))
        assert (run.run, run.ratio) == ("a\u2028b\x0bc", 2.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run,ratio,performance\na,2,-1\n", r"runs\.csv:1: has no column 'first_epoch_loss'"),
        (f"{HEAD},ration\na,2,3,-1,2\n", r"runs\.csv:1: unknown column 'ration'; did you mean 'ratio'"),
        (f"{HEAD},seed\na,2,3,-1,1\n", r"neither 'set' nor 'family'.*add 'set'"),
        (f"{HEAD}\na,2,3,1e200\n", r"runs\.csv:2: a: performance is 1e\+200; expected .*below"),
        (f"{HEAD}\na,1e99,3,1\n", r"runs\.csv:2: a: ratio is 1e\+99; expected .*below 1e\+50"),
        (f"{HEAD},ratio\na,2,3,-1,2\n", r"runs\.csv:1: has two columns 'ratio'"),
        (f"{HEAD}\na,2,3,-1\nb,two,3,-1\n", r"runs\.csv:3: ratio is 'two'; expected a finite"),
        (f"{HEAD}\na,2,nan,-1\n", r"runs\.csv:2: first_epoch_loss is 'nan'"),
        (f"{HEAD}\na,2,3,\n", r"runs\.csv:2: performance is ''"),
        (f"{HEAD}\na,0,3,-1\n", r"runs\.csv:2: a: ratio is 0\.0; expected a number above 0; mend"),
        (f"{HEAD}\na,2,-3,-1\n", r"runs\.csv:2: a: first_epoch_loss is -3\.0; expected nats"),
        (f"{HEAD},loss_10\na,2,3,-1,x\n", r"runs\.csv:2: loss_10 is 'x'"),
        (f"{HEAD}\n,2,3,-1\n", r"runs\.csv:2: has no 'run'"),
        (f"{HEAD}\na,2,3,-1\na,2,3,-1\n", r"runs\.csv:3: run 'a' is there already, at .*:2"),
        (f"{HEAD}\na,2,3\n", r"runs\.csv:2: does not have the 4 values"),
        (f"{HEAD}\na,2,3,-1,9\n", r"runs\.csv:2: does not have the 4 values"),
        (f'{HEAD}\n"a,2,3,-1\n', r"no CSV"),
        (f"{HEAD}\n", r"holds no run"),
        ("", r"runs\.csv:1: has no column 'run'"),
    ],
)  # fmt: skip
def test_every_mistake_has_its_place(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_law_table(written(tmp_path, text))


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_law_table(tmp_path / "nothing.csv")
    path = tmp_path / "runs.csv"
    path.write_bytes(b"run,\xff\xfe\n")
    with pytest.raises(DataError, match="no UTF-8"):
        read_law_table(path)
