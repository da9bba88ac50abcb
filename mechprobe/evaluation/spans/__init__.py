"""Detection on spans and matched pairs."""
