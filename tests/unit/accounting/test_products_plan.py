from __future__ import annotations

import pytest

from didact.accounting.products import plan


def test_norms_alone_cross_where_the_matrices_do() -> None:
    # tile 2·S·o·i, Gram 2·S²·(o + i): equal at S = o·i / (o + i)
    for d_out, d_in, crossover in [(768, 768, 384), (3072, 768, 614.4), (8192, 2048, 1638.4)]:
        assert d_out * d_in / (d_out + d_in) == crossover
        asked = {"directions": 0, "norms": True, "transform": False}
        below = plan(d_out, d_in, int(crossover - 0.1), **asked)
        above = plan(d_out, d_in, int(crossover) + 1, **asked)
        assert below.form == "gram"
        assert below.flops == 2 * int(crossover - 0.1) ** 2 * (d_out + d_in)
        assert above.form == "tile"
        assert above.flops == 2 * (int(crossover) + 1) * d_out * d_in
    assert plan(768, 768, 384, directions=0, norms=True, transform=False).form == "gram"  # tie


def test_a_direction_favors_the_tile() -> None:
    # 10 tokens, 8 x 6: tile 2·10·48 + 2·48; Gram 2·100·14 + 2·10·48
    got = plan(8, 6, 10, directions=1, norms=True, transform=False)
    assert (got.form, got.flops) == ("tile", 1056)
    # 2 tokens: tile 2·2·48 + 2·48 = 288; Gram 2·4·14 + 2·2·48 = 304
    assert plan(8, 6, 2, directions=1, norms=True, transform=False).flops == 288
    # 1 token, 3 directions: tile 2·48·4 = 384; Gram 2·14 + 3·96 = 316
    got = plan(8, 6, 1, directions=3, norms=True, transform=False)
    assert (got.form, got.flops) == ("gram", 316)


def test_dots_alone() -> None:
    got = plan(8, 6, 10, directions=1, norms=False, transform=False)
    assert (got.form, got.flops) == ("dot", 960)  # no tile to multiply afterwards
    got = plan(8, 6, 10, directions=2, norms=False, transform=False)
    assert (got.form, got.flops) == ("tile", 960 + 192)


def test_a_transform_needs_the_tile() -> None:
    for form in (None, "gram", "dot"):
        got = plan(8, 6, 1, directions=3, norms=True, transform=True, form=form)
        assert (got.form, got.flops) == ("tile", 4 * 96)


def test_rows_that_are_looked_up() -> None:
    # an embedding of 100 x 6 and 5 tokens: pairs of equal ids, 2·5²·6, against nothing or 2·600·D
    got = plan(100, 6, 0, directions=1, norms=True, transform=False, lookups=5)
    assert (got.form, got.flops) == ("gram", 300)
    # tied to a head of 4 tokens: Gram 2·16·106 + 2·6·5·(4 + 5); tile 2·4·600
    got = plan(100, 6, 4, directions=0, norms=True, transform=False, lookups=5)
    assert (got.form, got.flops) == ("gram", 3392 + 540)
    got = plan(100, 6, 5, directions=0, norms=True, transform=False, lookups=5)
    assert (got.form, got.flops) == ("gram", 2 * 25 * 106 + 600)  # the tile would be 6000
    got = plan(100, 6, 6, directions=0, norms=True, transform=False, lookups=5)
    assert (got.form, got.flops) == ("tile", 7200)


@pytest.mark.parametrize("form", ["tile", "gram", "dot"])
def test_a_form_can_be_asked_for(form) -> None:
    asked = {"directions": 1, "transform": False}
    assert plan(8, 6, 10, norms=form != "dot", form=form, **asked).form == form
