"""The tables of a causal run."""
