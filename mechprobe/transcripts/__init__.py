"""Labelled conversations as text: no tokenizer, no tensor."""
