"""What scores by likeness to target samples share: encoders, cosines, fields of texts."""
