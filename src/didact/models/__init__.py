"""Models opened, samples encoded for them, and what they say: losses and embeddings."""
