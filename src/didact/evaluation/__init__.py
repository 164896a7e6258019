"""What a trained model is worth: bits per byte and likelihoods of answers on held-out samples."""
