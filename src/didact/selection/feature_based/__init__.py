"""Cover of a target's features by a concave, greedily grown set."""
