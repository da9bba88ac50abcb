"""Trained on one domain, tested on each other."""
