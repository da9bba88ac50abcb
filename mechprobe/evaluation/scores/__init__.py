"""Anyone's turn scores from a file: figures, intervals, comparisons."""
