"""Whether a new version of the data is a risk: flags before training and while it goes on."""
