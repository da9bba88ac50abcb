"""What a feature is, for a person: its examples, its words, its indicators, what it writes and what lies near it."""
