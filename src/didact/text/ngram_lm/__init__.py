"""N-gram language models: counted, estimated, read from ARPA files, and asked."""
