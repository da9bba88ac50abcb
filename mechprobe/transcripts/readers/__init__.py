"""One file for each format that other people keep conversations in."""
