"""What a detector is worth: metrics with their chance levels and intervals, and tables of them."""
