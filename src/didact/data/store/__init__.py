"""The pool as it is kept: written once, in chunks, with an identity and token counts per row."""
