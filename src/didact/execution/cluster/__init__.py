"""Work on the machines of a Ray cluster: the only user of Ray."""
