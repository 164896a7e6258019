"""Scorers, one file per method, and `run.score_pool`, which applies one to a pool."""
