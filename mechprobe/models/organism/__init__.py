"""A small language model whose truth is known: its world, its training and its measured truth."""
