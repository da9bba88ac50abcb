"""Where in the model a thought acts."""
