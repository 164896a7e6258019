import math

import numpy as np
import pytest

from didact.accounting.counts import stats_from_counts
from didact.accounting.lengths import typical_lengths
from didact.core.errors import ConfigError


@pytest.mark.parametrize("kind", ["chat", "text"])
@pytest.mark.parametrize(("samples", "mean"), [(300_000, 350.0), (7, 12.5), (1, 1.0)])
def test_totals_are_exact(samples, mean, kind):
    stats = stats_from_counts(samples, mean, kind)
    assert stats.n == sum(stats.token_lengths) == samples
    assert stats.n_tokens == round(samples * mean)
    assert stats.n_bytes == 4 * stats.n_tokens
    assert stats.learned == (1.0 if kind == "text" else 0.4)


@pytest.mark.parametrize("spread", [0.0, 0.6, 1.0])
def test_lengths_have_the_mean_and_the_spread(spread):
    stats = stats_from_counts(300_000, 350, spread=spread)
    lengths = typical_lengths(stats, overhead=0, max_length=None).astype(float)
    assert lengths.mean() == pytest.approx(350, rel=0.002)
    # E[S²] / E[S]² of a log-normal is exp(spread²); bins of a third of an octave blur it, and the
    # longest of 8,192 samples are not as long as the distribution's.
    assert (lengths**2).mean() / lengths.mean() ** 2 == pytest.approx(math.exp(spread**2), rel=0.05)
    assert np.log(lengths).std() == pytest.approx(spread, abs=0.08)


def test_tasks_of_a_target_set():
    assert len(stats_from_counts(100, 50, tasks=10).tasks) == 10
    assert stats_from_counts(100, 50).tasks == ("",)


@pytest.mark.parametrize(
    ("counts", "named"),
    [((0, 10), "samples=0"), ((-3, 10), "samples=-3"), ((10, 0), "mean_tokens=0"),
     ((10, math.nan), "mean_tokens=nan"), ((10.5, 10), "samples=10.5"),
     ((10, 1e9), "tokens of one sample"), ((10, 0.5), "tokens of one sample")],
)  # fmt: skip
def test_counts_that_are_none(counts, named):
    with pytest.raises(ConfigError, match=named):
        stats_from_counts(*counts)


@pytest.mark.parametrize(
    "wrong", [{"spread": -1}, {"learned": 2}, {"tasks": 0}, {"bytes_per_token": 0}]
)
def test_settings_that_are_none(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        stats_from_counts(10, 10, **wrong)
