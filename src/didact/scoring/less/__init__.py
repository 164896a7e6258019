"""LESS: likeness of a sample's gradients to the target's, over checkpoints."""
