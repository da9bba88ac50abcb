"""Activations of a model on transcripts: captured once, stored on disk, read by row."""
