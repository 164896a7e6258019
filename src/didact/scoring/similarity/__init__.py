"""Scores by likeness to target examples: dense embeddings and RDS+."""
