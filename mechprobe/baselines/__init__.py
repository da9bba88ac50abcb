"""What a probe must beat: length, place, words, embeddings, token identity, random directions, shuffled labels, judges."""
