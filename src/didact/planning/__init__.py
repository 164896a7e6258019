"""What to do with the compute there is: costs, the performance law, the frontier, the verdict."""
