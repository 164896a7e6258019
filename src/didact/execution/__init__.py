"""Executors and their devices; elapsed time and memory of what they run."""
