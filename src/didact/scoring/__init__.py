"""Scorers, one file per method; `around.score_pool` applies one to a pool."""
