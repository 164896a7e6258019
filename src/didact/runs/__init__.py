"""The run folder, its records, and the difference of two runs."""
