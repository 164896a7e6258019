"""A set that keeps bringing shingles not yet in it."""
