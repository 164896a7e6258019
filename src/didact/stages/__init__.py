"""The stages of a run, a file each: what it depends on, estimates, does, loads, and prints."""
