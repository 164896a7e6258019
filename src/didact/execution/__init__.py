"""Where work runs: executors, and what it took."""
