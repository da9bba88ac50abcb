"""What the model writes under an edit."""
