"""From labelled spans to labelled tokens."""
