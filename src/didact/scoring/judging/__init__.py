"""What the scorers that judge with a model share: the model, its cost, its losses."""
