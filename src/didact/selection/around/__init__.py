"""What stands around every selector: eligible rows, quotas, near-duplicates, the budget."""
