"""The only door to torch: models opened, samples encoded, losses, gradients, embeddings."""
