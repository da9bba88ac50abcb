"""Sparse autoencoders: trained, loaded, attached to a model, and their features stored."""
