"""Which samples are noise: letters and words in no order, or bytes decoded with the wrong table."""
