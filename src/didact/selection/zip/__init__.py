"""ZIP: the set that compresses least, exactly and as released."""
