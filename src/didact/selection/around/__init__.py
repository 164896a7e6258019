"""Around every selector: who may be chosen, budget, quotas, near-duplicates, greedy growth."""
