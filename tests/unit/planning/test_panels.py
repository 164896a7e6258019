"""The published tables hold together, and are found by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from didact.core.errors import ConfigError
from didact.planning.panels import (
    FRACTIONS,
    METHODS,
    PANELS,
    SELECTION_FLOPS,
    TRAINING_FLOPS,
    at_budget,
    curves,
    drawn_curves,
    panel,
    points,
)


def test_flops_are_fractions_of_the_full_pass_within_what_was_read_off():
    for row in TRAINING_FLOPS.values():
        assert row == pytest.approx([f * row[-1] for f in (*FRACTIONS, 1.0)], rel=1.1e-3)
    forward = TRAINING_FLOPS["7B"][-1] / 3  # the 7B model selects
    assert SELECTION_FLOPS["perplexity"] == pytest.approx(forward, rel=1e-3)
    assert SELECTION_FLOPS["less"] == pytest.approx(5.4 * forward, rel=1e-3)


def test_a_panel_by_name():
    of = panel("BBH 13B")
    assert (of.task, of.size, of.n_params, of.full_flops) == ("BBH", "13B", 13e9, 8.638e18)
    assert of.selection("perplexity") == pytest.approx(1.531 / 8.638)
    with pytest.raises(ConfigError, match="'BBH 7'; did you mean 'BBH 7B'"):
        panel("BBH 7")


def test_columns_are_methods():
    of = panel("BBH 7B")
    assert dict(zip(METHODS, of.values[:, 0].tolist(), strict=True)) == {
        "random": 39.65,
        "bm25": 39.94,
        "embed": 40.83,
        "perplexity": 40.30,
        "less": 41.14,
    }
    assert [curve.compute.tolist() for curve in curves(of)] == [list(FRACTIONS)] * 5


@pytest.mark.parametrize("of", PANELS, ids=lambda of: of.name)
def test_points_are_five_methods_five_fractions_and_one_full_pass(of):
    found = points(of)
    assert len(found) == 26
    last = next(point for point in found if point.fraction == 1)
    assert (last.method, last.flops, last.value) == ("random", of.full_flops, of.full)
    assert max(point.value for point in found) == of.full


def test_total_and_net_compute_differ_by_the_cost_of_selection():
    of = panel("MMLU 7B")
    for total, net in zip(drawn_curves(of), drawn_curves(of, total=False), strict=True):
        assert total.compute - net.compute == pytest.approx(of.selection(net.method))
        assert net.compute == pytest.approx([*FRACTIONS, 1.0, 2.0])
        assert net.values[-2:].tolist() == [47.32, 47.42]


def test_a_budget_below_a_methods_first_point_buys_nothing():
    told = at_budget(panel("MMLU 7B"), 0.025)
    assert told["random"] == 45.18
    assert math.isnan(told["perplexity"])
    between = at_budget(panel("MMLU 70B"), math.sqrt(0.1 * 0.25))["bm25"]
    assert between == pytest.approx(np.mean([69.24, 69.38]))
