"""What an SAE is worth: what the model loses by it, how stable its features are, and what a control would show."""
