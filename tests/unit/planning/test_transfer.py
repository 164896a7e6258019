"""What carries over between panels: gains beside random, the normal model's quantiles."""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning.law import LawFit
from didact.planning.transfer import alike, log_gains, log_rates


def fitted(**rates):
    return LawFit(
        form="shared",
        end=1.0,
        base=dict.fromkeys(rates, 0.0),
        rates=rates,
        base_given=False,
        bounds_hit=(),
        points=10,
        gap=1.0,
        rmse=0.0,
        loo=None,
        forward=None,
    )


def test_gains_are_beside_random():
    fits = [fitted(random=2.0, less=8.0), fitted(random=5.0, less=5.0)]
    assert log_gains(fits, ("less",))[:, 0] == pytest.approx([np.log(4), 0.0])
    assert log_rates([fitted(random=0.0)], ("random",))[0, 0] == pytest.approx(np.log(1e-3))


@pytest.mark.parametrize("mean", [False, True])
def test_a_further_panel_has_students_quantiles(mean):
    stats = pytest.importorskip("scipy.stats")
    logs = np.log([2.0, 3.0, 2.5, 4.0, 1.5])
    fits = [fitted(random=float(np.exp(x))) for x in logs]
    drawn = np.log(alike(fits, methods=("random",), mean=mean, draws=20_000).rates[:, 0])
    wide = logs.std(ddof=1) * np.sqrt((0 if mean else 1) + 1 / 5)
    expected = stats.t.ppf([0.1, 0.5, 0.9], 4, logs.mean(), wide)
    assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx(expected, abs=0.05 * wide)


def test_methods_that_go_together_stay_together():
    fits = [fitted(random=r, less=4 * r) for r in (1.0, 2.0, 5.0)]
    drawn = alike(fits, methods=("random", "less"), draws=100)
    assert drawn.rates[:, 1] / drawn.rates[:, 0] == pytest.approx(4.0)
    assert np.ptp(drawn.rates[:, 0]) > 1
