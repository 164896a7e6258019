"""Watching data versions: their folders opened, judged in order, written down."""
