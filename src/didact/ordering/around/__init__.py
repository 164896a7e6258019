"""What stands around every orderer: jitter, interleaved sources, and what is said of an order."""
