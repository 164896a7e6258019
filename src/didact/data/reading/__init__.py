"""From files to rows: opening, decompressing, parsing, and saying what a bad row is."""
