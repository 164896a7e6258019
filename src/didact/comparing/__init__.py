"""Which method, at equal total compute: a grid of runs over one keep, its bill and its verdict."""
