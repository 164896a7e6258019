"""The rows in training order, written for a trainer; what the trainers' files are made of."""
