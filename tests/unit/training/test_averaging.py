import pytest

torch = pytest.importorskip("torch")

from didact.training.averaging import last_ones, moving  # noqa: E402


def taken(rule, steps):
    """Steps whose weights count, and the share of each in the end."""
    shares = {}
    n = 0
    for step in range(1, steps + 1):
        share = rule(step, steps, n)
        if share is not None:
            n += 1
            shares = {s: w * (1 - share) for s, w in shares.items()} | {step: share}
    return shares


@pytest.mark.parametrize(
    ("count", "every", "steps", "expected"),
    [(3, 2, 10, [6, 8, 10]), (6, None, 300, [250, 260, 270, 280, 290, 300]),
     (6, None, 4, [1, 2, 3, 4]), (2, 100, 50, [50])],
)  # fmt: skip
def test_the_last_checkpoints_weigh_the_same(count, every, steps, expected):
    shares = taken(last_ones(count, every), steps)
    assert list(shares) == expected
    assert list(shares.values()) == pytest.approx([1 / len(expected)] * len(expected))


def test_a_moving_average_forgets_its_beginning():
    shares = taken(moving(0.9), 200)
    assert shares[200] == pytest.approx(0.1)
    assert shares[199] == pytest.approx(0.1 * 0.9)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)  # nothing of the start is left
    early = taken(moving(0.999), 9)
    assert sum(early.values()) > 0.9
