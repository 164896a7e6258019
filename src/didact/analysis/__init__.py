"""Whether sets of training samples can be told apart by the runs that were made of them."""
