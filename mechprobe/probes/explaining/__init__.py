"""What drives a score: exact SHAP values of linear probes and trees, and whether they make sense."""
