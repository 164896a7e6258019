"""Greedy growth of a set, and what the greedy selectors share: the heap, finished picks."""
