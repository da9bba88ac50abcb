"""Training SAEs on the rows of an activation store."""
