"""Edits of activations, at positions or at selected tokens."""
