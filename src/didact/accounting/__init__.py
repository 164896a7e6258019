"""What computation costs: formulas of an architecture's numbers; loads no model."""
