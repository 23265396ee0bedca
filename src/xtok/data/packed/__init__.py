"""A packed corpus: data sets written once into shards, read back memory-mapped, and chunks drawn from it."""
