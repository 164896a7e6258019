"""What scorers that judge with a model share: its settings and cost, the model, its windows."""
