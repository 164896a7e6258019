from __future__ import annotations

from didact.accounting.algebra import algebras


def test_norms_alone_cross_where_the_matrices_do() -> None:
    # tile 2·S·o·i, Gram 2·S²·(o + i): equal at S = o·i / (o + i)
    for d_out, d_in, crossover in [(768, 768, 384), (3072, 768, 614.4), (8192, 2048, 1638.4)]:
        assert d_out * d_in / (d_out + d_in) == crossover
        asked = {"directions": 0, "norms": True, "whole_gradient": False}
        below = algebras(d_out, d_in, int(crossover - 0.1), **asked)[0]
        above = algebras(d_out, d_in, int(crossover) + 1, **asked)[0]
        assert below.form == "gram"
        assert below.flops == 2 * int(crossover - 0.1) ** 2 * (d_out + d_in)
        assert above.form == "tile"
        assert above.flops == 2 * (int(crossover) + 1) * d_out * d_in
    assert (
        algebras(768, 768, 384, directions=0, norms=True, whole_gradient=False)[0].form == "gram"
    )  # tie


def test_a_direction_favors_the_tile() -> None:
    # 10 tokens, 8 x 6: tile 2·10·48 + 2·48; Gram 2·100·14 + 2·10·48
    got = algebras(8, 6, 10, directions=1, norms=True, whole_gradient=False)[0]
    assert (got.form, got.flops) == ("tile", 1056)
    # 2 tokens: tile 2·2·48 + 2·48 = 288; Gram 2·4·14 + 2·2·48 = 304
    assert algebras(8, 6, 2, directions=1, norms=True, whole_gradient=False)[0].flops == 288
    # 1 token, 3 directions: tile 2·48·4 = 384; Gram 2·14 + 3·96 = 316
    got = algebras(8, 6, 1, directions=3, norms=True, whole_gradient=False)[0]
    assert (got.form, got.flops) == ("gram", 316)


def test_dots_alone() -> None:
    got = algebras(8, 6, 10, directions=1, norms=False, whole_gradient=False)[0]
    assert (got.form, got.flops) == ("dot", 960)  # no tile to multiply afterwards
    got = algebras(8, 6, 10, directions=2, norms=False, whole_gradient=False)[0]
    assert (got.form, got.flops) == ("tile", 960 + 192)


def test_a_transform_needs_the_tile() -> None:
    (got,) = algebras(8, 6, 1, directions=3, norms=True, whole_gradient=True)
    assert (got.form, got.flops) == ("tile", 4 * 96)


def test_rows_that_are_looked_up() -> None:
    # an embedding of 100 x 6 and 5 tokens: pairs of equal ids, 2·5²·6, against nothing or 2·600·D
    got = algebras(100, 6, 0, directions=1, norms=True, whole_gradient=False, lookups=5)[0]
    assert (got.form, got.flops) == ("gram", 300)
    # tied to a head of 4 tokens: Gram 2·16·106 + 2·6·5·(4 + 5); tile 2·4·600
    got = algebras(100, 6, 4, directions=0, norms=True, whole_gradient=False, lookups=5)[0]
    assert (got.form, got.flops) == ("gram", 3392 + 540)
    got = algebras(100, 6, 5, directions=0, norms=True, whole_gradient=False, lookups=5)[0]
    assert (got.form, got.flops) == ("gram", 2 * 25 * 106 + 600)  # the tile would be 6000
    got = algebras(100, 6, 6, directions=0, norms=True, whole_gradient=False, lookups=5)[0]
    assert (got.form, got.flops) == ("tile", 7200)


def test_what_gives_norms_and_what_dots_alone() -> None:
    asked = {"directions": 1, "whole_gradient": False}
    assert {each.form for each in algebras(8, 6, 10, norms=True, **asked)} == {"tile", "gram"}
    assert {each.form for each in algebras(8, 6, 10, norms=False, **asked)} == {"tile", "dot"}
