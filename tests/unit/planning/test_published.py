"""The published panels: fitted once, foretold from the others, and silent on other questions."""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning.panels import METHODS, PANELS
from didact.planning.published import (
    foretold,
    published_draws,
    published_fits,
    published_prior,
    regret,
)
from didact.planning.transfer import log_gains, log_rates


def test_published_panels_are_fitted_once_and_drawn_each_its_own_way():
    assert published_fits() is published_fits()
    fits, drawn = published_fits(), published_draws(50)
    assert len(fits) == len(drawn) == len(PANELS)
    middle = np.array([np.median(draws.rates, axis=0) for draws in drawn])
    assert np.log(middle) == pytest.approx(log_rates(fits, METHODS), abs=0.35)


def test_regret_is_0_of_the_best_and_the_rest_is_between_methods():
    of = PANELS[0]
    regrets = [regret(of, method) for method in METHODS]
    assert min(regrets) == 0
    assert foretold(0).regret_random == regrets[0] == pytest.approx(0.76)


def test_the_prior_is_the_mean_of_the_panels_and_as_sure_as_they_agree() -> None:
    prior = published_prior("chat", 7e9)
    gains = log_gains(published_fits(), ("bm25", "less"))
    for k, method in enumerate(("bm25", "less")):
        beside = np.log(prior.rates[method] / prior.rates["random"])
        assert beside == pytest.approx(gains[:, k].mean())
        ends = np.quantile(np.log(prior.middle[method] / prior.middle["random"]), [0.05, 0.95])
        reach = 1.943 * gains[:, k].std(ddof=1) / np.sqrt(7)  # Student's t, six degrees
        assert ends == pytest.approx([beside - reach, beside + reach], abs=0.15 * reach + 0.02)
        drawn = np.log(prior.draws[method] / prior.draws["random"]).reshape(7, -1)
        assert np.median(drawn, axis=1) == pytest.approx(gains[:, k], abs=0.35)


def test_preferences_and_text_have_no_published_prior() -> None:
    for kind in ("pair", "labelled", "text"):
        found = published_prior(kind, 7e9)
        assert found.source == "none"
        assert "say nothing" in found.notes[0]
    assert published_prior("chat", 7e9).source == "published"
    assert any("may not hold" in note for note in published_prior("chat", 5e8).notes)
