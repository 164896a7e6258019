"""The cost of computation: formulas of an architecture's numbers; loads no model."""
