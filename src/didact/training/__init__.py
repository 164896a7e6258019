"""Training: a causal model over an ordered pool, LoRA warm-up, regression on labels."""
