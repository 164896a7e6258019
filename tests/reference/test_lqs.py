"""PDS and LQS on a quadratic problem worked out by hand with numpy (DELT, arXiv:2506.21545)."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from didact.core.pieces import Pieces  # noqa: E402
from didact.core.statistics import zscore  # noqa: E402
from didact.gradients.adjoint import adjoint_step, run_adjoint, save_adjoint  # noqa: E402
from didact.gradients.inner_training import InnerSettings  # noqa: E402
from didact.gradients.parameters import lambda_path, load, theta_path  # noqa: E402
from didact.scoring.adjoint.data_scorer import LABEL_CLIP  # noqa: E402
from didact.scoring.adjoint.rules import StepProducts, annotated_steps, sum_products  # noqa: E402

STEPS, ETA = 4, 0.2
START = (0.5, 0.5)
TRAIN = (((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0))
TARGET = (((1.0, 0.0), 1.0), ((0.0, 1.0), 2.0))
PROXY = (((1.0, 0.0), 1.0), ((0.0, 1.0), 2.0), ((0.0, 1.0), -1.0), ((1.0, -1.0), 0.5))

THETA = [(0.5, 0.5), (0.45, 0.4), (0.42, 0.315), (0.4045, 0.2415), (0.39945, 0.1769)]
TARGET_LOSS = [0.625, 0.715625, 0.79390625, 0.861735625, 0.9210884781]
LAMBDA = [
    (-0.31123804, -3.2472055425), (-0.429344775, -2.8223778), (-0.48049025, -2.30047425),
    (-0.446815, -1.6696175), (-0.300275, -0.91155),
]  # fmt: skip
DOTS = [
    (0.2146723875, 0.2642696375, 0.2591527, 0.1788137625),
    (4.2335667, 3.6807588, 2.8133054875, 1.602960675),
    (-4.2335667, -3.22066395, -2.1955470125, -1.131689325),
    (-1.1965165125, -0.8189928, -0.4830069875, -0.205999675),
]
NORMS = [
    (0.5, 0.55, 0.58, 0.5955, 0.60055),
    (1.5, 1.6, 1.685, 1.7585, 1.8231),
    (1.5, 1.4, 1.315, 1.2415, 1.1769),
    (0.7071067812, 0.6363961031, 0.5586143571, 0.4765899705, 0.3923735529),
]
PDS = [0.1833816975, 2.4661183325, -2.1562933975, -0.540903195]
PDS_BY_DIFFERENCES = [0.1833816976, 2.4661183324, -2.1562933976, -0.5409031951]
LQS_PAPER = [1.1885723606, 4.6635091082, -5.1792222137, -3.0045883542]
LQS_PAPER_Z = [0.4666151014, 1.3819149716, -1.2106647948, -0.6378652782]
AS_INTENDED = {
    1: [0.291989911, 1.6066397941, -1.674660561, -0.9131446535],
    2: [0.1258555012, 1.065161596, -1.082997874, -0.5249887088],
}
AS_RELEASED = {
    1: [0.291989911, 0.1234384075, 4.0741530151, 1.6066397941],
    2: [0.1258555012, 0.0773109421, 2.0225116837, 1.065161596],
}
CLOSE = {"rtol": 0, "atol": 6e-11}  # the tables are rounded to ten decimals


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


class Quadratic:
    """½(a·θ - b)²: batch, target and proxy samples are pairs (a, b)."""

    device = torch.device("cpu")

    def train_gradient(self, theta, _step):
        return self._mean(TRAIN, theta)

    def target_gradient(self, theta):
        return self._mean(TARGET, theta)

    def target_loss(self, theta):
        return self._mean(TARGET, theta)[0]

    def hvp(self, _theta, _step, vector):
        a = tensor([a for a, _ in TRAIN])
        return {"theta": a.t() @ (a @ vector["theta"]) / len(a)}

    @staticmethod
    def _mean(samples, theta):
        a, b = tensor([a for a, _ in samples]), tensor([b for _, b in samples])
        off = a @ theta["theta"] - b
        return float(0.5 * off.square().mean()), {"theta": a.t() @ off / len(a)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quadratic")
    start = {"theta": tensor(START)}
    steps = range(STEPS)
    result = run_adjoint(
        Quadratic(), start, InnerSettings(STEPS, ETA), Pieces(folder / "pieces"),
        visited=steps, theta_only=[STEPS], forward=lambda done: None, backward=lambda done: None,
    )  # fmt: skip
    assert np.allclose(result.target_losses[::-1], TARGET_LOSS[1:], **CLOSE)
    assert np.isclose(result.target_loss_before, TARGET_LOSS[0], **CLOSE)
    (folder / "whole").mkdir()
    save_adjoint(result, {}, folder / "whole")
    return folder / "whole"


def gradients(theta):
    """Of the proxy samples at θ: `(n, 2)`."""
    return np.asarray([(np.dot(a, theta) - b) * np.asarray(a) for a, b in PROXY])


def products(folder, passes):
    """What annotation hands over, from the parameters that the adjoint left on disk."""
    dots, norms, lambdas = {}, {}, {}
    for each in passes:
        g = gradients(load(theta_path(folder, each.number))["theta"].numpy())
        norms[each.number] = np.linalg.norm(g, axis=1)
        if each.dot:
            lam = load(lambda_path(folder, each.number + 1))["theta"].numpy()
            dots[each.number], lambdas[each.number] = g @ lam, float(np.linalg.norm(lam))
    return StepProducts(dots=dots, norms=norms, lambda_norms=lambdas)


def test_trajectory_adjoint_dots_and_norms(folder):
    for t, expected in enumerate(THETA):
        assert np.allclose(load(theta_path(folder, t))["theta"], expected, **CLOSE)
    for t, expected in enumerate(LAMBDA[1:], 1):
        assert np.allclose(load(lambda_path(folder, t))["theta"], expected, **CLOSE)
    following = load(lambda_path(folder, 1))
    loss, first = adjoint_step(
        Quadratic(), {"theta": tensor(START)}, following, InnerSettings(STEPS, ETA), 0
    )
    assert loss == pytest.approx(TARGET_LOSS[0])
    assert np.allclose(first["theta"], LAMBDA[0], **CLOSE)
    found = products(folder, annotated_steps("interval", STEPS, 1))
    assert np.allclose(np.stack([found.dots[t] for t in range(4)], 1), DOTS, **CLOSE)
    assert np.allclose(np.stack([found.norms[t] for t in range(5)], 1), NORMS, **CLOSE)


def test_hessian_vector_product(folder):
    found = Quadratic().hvp({}, 2, load(lambda_path(folder, 3)))["theta"]
    assert np.allclose(found, (-1.28162375, -1.05821625), **CLOSE)


def test_pds_is_the_table_and_minus_da_by_depsilon(folder):
    found = sum_products(
        "pds",
        products(folder, annotated_steps("pds", STEPS, 1)),
        steps=STEPS,
        every=1,
        learning_rate=ETA,
    )
    assert np.allclose(found.values, PDS, **CLOSE)

    def area(sample, epsilon):
        theta, total = np.asarray(START), 0.0
        for _ in range(STEPS):
            g = Quadratic._mean(TRAIN, {"theta": tensor(theta)})[1]["theta"].numpy()
            theta = theta - ETA * (g + epsilon * gradients(theta)[sample])
            total += Quadratic._mean(TARGET, {"theta": tensor(theta)})[0]
        return total

    differences = [-(area(n, 1e-6) - area(n, -1e-6)) / 2e-6 for n in range(4)]
    assert np.allclose(differences, PDS_BY_DIFFERENCES, rtol=0, atol=1e-9)
    assert np.allclose(found.values, differences, rtol=0, atol=1e-9)  # of a central difference


def test_lqs_paper_rule_and_its_labels(folder):
    found = sum_products(
        "paper",
        products(folder, annotated_steps("paper", STEPS, 1)),
        steps=STEPS,
        every=1,
        learning_rate=ETA,
    )
    assert np.allclose(found.values, LQS_PAPER, **CLOSE)
    assert np.allclose(zscore(found.values, clip=LABEL_CLIP), LQS_PAPER_Z, **CLOSE)
    ratios = [sum(n[t] / n[t + 1] for t in (1, 2, 3)) for n in NORMS]
    assert np.allclose(found.learnability, ratios, rtol=1e-9)  # from rounded norms
    lengths = [np.linalg.norm(lam) for lam in LAMBDA]
    cosines = [
        sum(d[t] / n[t] / lengths[t + 1] for t in (1, 2, 3))
        for d, n in zip(DOTS, NORMS, strict=True)
    ]
    assert np.allclose(found.quality, cosines, rtol=1e-9)


@pytest.mark.parametrize("every", [1, 2])
def test_the_interval_rule_divides_the_first_visited_term_too(folder, every):
    """The released code means to divide the first visited term by 1; ours by the norm at θ_T."""
    found = products(folder, annotated_steps("interval", STEPS, every))
    ours = sum_products("interval", found, steps=STEPS, every=every, learning_rate=ETA).values
    first = STEPS - every
    term = ETA * found.dots[first]
    assert np.allclose(ours - term / found.norms[STEPS] + term, AS_INTENDED[every], **CLOSE)
    assert np.argsort(-ours).tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("every", [1, 2])
def test_the_released_table_gives_scores_of_other_samples_and_ours_does_not(folder, every):
    """vmap hands every sample the whole batch's divisors: B x B numbers, flattened and cut to n."""
    found = products(folder, annotated_steps("interval", STEPS, every))
    size, n = 2, len(PROXY)

    def released(order):
        total, divisors = np.zeros(n), np.ones(n)
        for step in sorted(found.dots, reverse=True):
            d, norm = found.dots[step][order], found.norms[step][order]
            tables = [
                np.outer(d[at : at + size], 1 / divisors[at : at + size])
                for at in range(0, n, size)
            ]
            total += ETA * np.concatenate([t.ravel() for t in tables])[:n]
            divisors = norm
        return total

    as_it_is = released(np.arange(n))
    assert np.allclose(as_it_is, AS_RELEASED[every], **CLOSE)
    assert np.argsort(-as_it_is).tolist()[0] == 2  # the harmful sample wins
    other = np.asarray([3, 0, 2, 1])
    assert not np.allclose(released(other), as_it_is[other])

    ours = sum_products("interval", found, steps=STEPS, every=every, learning_rate=ETA).values
    moved = StepProducts(
        dots={k: v[other] for k, v in found.dots.items()},
        norms={k: v[other] for k, v in found.norms.items()},
        lambda_norms=found.lambda_norms,
    )
    again = sum_products("interval", moved, steps=STEPS, every=every, learning_rate=ETA).values
    assert np.array_equal(again, ours[other])


def test_labels_are_z_scores_clipped_at_three():
    found = zscore(np.asarray([0.0] * 11 + [10.0]), clip=LABEL_CLIP)
    assert np.allclose(found[:11], -0.301511, atol=1e-6)
    assert found[11] == 3.0
    assert zscore(np.asarray([2.0, 2.0]), clip=LABEL_CLIP).tolist() == [0.0, 0.0]
