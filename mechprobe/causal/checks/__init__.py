"""Controls: directions that should do nothing, and what is asked of an edit before its effect is believed."""
