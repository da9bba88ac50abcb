"""Linear probes on activations and on sparse features, for all indicators at once."""
