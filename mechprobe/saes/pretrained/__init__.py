"""SAEs that others trained: which there are, reading them from local files, and whether they fit a model."""
