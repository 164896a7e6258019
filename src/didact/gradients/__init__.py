"""Gradients of single samples: taken, multiplied, projected, carried through training."""
