"""A row as samples see it: what a format is, columns by name, turns, and which format it is of."""
