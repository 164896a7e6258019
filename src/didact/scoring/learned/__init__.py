"""What scorers share that learn from rows: features of texts, folds, and fitting across them."""
