"""What the command line prints of it."""

from __future__ import annotations

from didact.analysis.apart import told_apart
from didact.cli.printing import apart_table


def test_sets_intervals_and_sentences_are_printed(runs_of, capsys):
    runs = runs_of({"[best]": [2.80, 2.81, 2.79], "other": [2.90, 2.91, 2.92]})
    found, _ = told_apart(runs)
    apart_table({"tasks": [t.to_json() for t in found], "notes": ["a note"]})
    shown = capsys.readouterr().out
    for part in (
        "held_out.jsonl · bits per byte (lower is better)", "[best]", "2.784 to 2.816",
        "Signal to noise 7.", "No ties: all sets are told apart.", "note: a note",
    ):  # fmt: skip
        assert part in shown


def test_one_run_a_set_is_printed_without_intervals(runs_of, capsys):
    found, _ = told_apart(runs_of({"a": [1.0], "b": [2.0]}))
    apart_table({"tasks": [t.to_json() for t in found], "notes": []})
    shown = capsys.readouterr().out
    assert "No set has two runs" in shown
    assert "None" not in shown
