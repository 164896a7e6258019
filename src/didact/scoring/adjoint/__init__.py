"""Scores by the worth of a sample to training itself: PDS, LQS and what they stand on."""
