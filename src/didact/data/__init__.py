"""Files ↔ Pool: detect, read, count tokens, write, export for a trainer. The door to the disk."""
