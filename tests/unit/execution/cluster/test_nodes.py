from __future__ import annotations

from didact._version import __version__
from didact.core.identity import base_libraries
from didact.execution.cluster.nodes import differences, facts_of


def test_facts_are_what_results_depend_on(tmp_path):
    (tmp_path / "token").write_text("seen")
    facts = facts_of(["numpy", "no-such-thing"])(str(tmp_path / "token"))
    assert facts["numpy"] == base_libraries()["numpy"]
    assert facts["no-such-thing"] == ""
    assert facts["didact"] == __version__
    assert len(facts["didact's source"]) == 12
    assert facts["cache"] == "seen"
    assert facts_of([])(str(tmp_path / "gone"))["cache"] == facts_of([])()["cache"] == ""


def test_both_values_of_a_difference_are_told():
    here = {"Python": "3.12", "numpy": "2.1", "torch": "", "didact": "1", "cache": ""}
    assert differences(here, here) == []
    there = {**here, "Python": "3.11", "torch": "2.6", "didact": "", "cache": "seen"}
    assert differences(here, there) == ["Python 3.11, 3.12 here", "didact is missing, 1 here"]
