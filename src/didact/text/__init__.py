"""What text alone tells us: words, n-grams, BM25, compressed size. Kernels on Arrow buffers."""
