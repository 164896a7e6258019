"""How many bytes DEFLATE makes of a text, many texts at once: the count, its kernel, its memory."""
