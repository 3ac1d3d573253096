"""A run over stores, in shards or on Ray: units, libraries of inverted styles, workers."""
