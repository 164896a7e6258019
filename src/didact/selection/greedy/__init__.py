"""What greedy selectors share: a heap, noise picked last, finished picks on disk."""
