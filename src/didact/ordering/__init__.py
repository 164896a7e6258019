"""Putting a selection in the sequence that the model reads: permutations of indices."""
