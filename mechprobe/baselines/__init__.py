"""What a probe must beat: length, words, token identity, random directions, shuffled labels, other judges."""
