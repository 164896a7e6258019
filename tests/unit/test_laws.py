"""Which measure of evaluated runs is their performance."""

from __future__ import annotations

import pytest

from didact.analysis.runs import Measure, Run, What
from didact.core.errors import ConfigError, DataError
from didact.laws import _what


def run(name, *whats):
    return Run(name=name, set=name, measures={What(*what): Measure(1.0, False) for what in whats})


BITS = ("held_out.jsonl", "", "bits_per_byte")
ALL = ("held_out.jsonl", "", "bits_per_byte_all")
GSM8K = ("gsm8k.jsonl", "", "bits_per_byte")
TASK = ("bbh.jsonl", "dates", "bits_per_byte")
WHOLE = ("bbh.jsonl", "", "bits_per_byte")


def test_the_one_file_that_all_have_is_taken():
    runs = [run("a", BITS, ALL, GSM8K), run("b", BITS, ALL)]
    assert _what(runs, "bits_per_byte", None) == What(*BITS)
    assert _what(runs, "bits_per_byte_all", None) == What(*ALL)
    assert _what([run("a", BITS, GSM8K)], "bits_per_byte", "gsm8k.jsonl") == What(*GSM8K)


def test_all_tasks_together_where_there_are_several():
    assert _what([run("a", TASK, WHOLE)], "bits_per_byte", None) == What(*WHOLE)
    assert _what([run("a", TASK)], "bits_per_byte", None) == What(*TASK)


def test_several_files_are_a_question():
    runs = [run("a", BITS, GSM8K), run("b", GSM8K, BITS)]
    with pytest.raises(ConfigError, match=r"of gsm8k\.jsonl, held_out\.jsonl; choose one.*--file"):
        _what(runs, "bits_per_byte", None)


def test_different_held_out_sets_are_refused_by_name():
    runs = [run("a", BITS), run("b", GSM8K)]
    with pytest.raises(
        DataError, match=r"b: has no bits_per_byte of 'held_out\.jsonl', and a has; .*gsm8k\.jsonl"
    ):
        _what(runs, "bits_per_byte", None)
    with pytest.raises(DataError, match=r"a: has no bits_per_byte of 'gsm8k\.jsonl', and b has"):
        _what(runs, "bits_per_byte", "gsm8k.jsonl")


def test_a_metric_that_no_run_has():
    with pytest.raises(ConfigError, match="expected one of bits_per_byte, bits_per_byte_all"):
        _what([run("a", BITS, ALL)], "accuracy", None)
