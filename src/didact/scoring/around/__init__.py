"""What stands around every scorer: one pass over the pool, shards, resume, combined tables."""
