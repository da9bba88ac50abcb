"""Speed against what a user would write or install otherwise; `python -m benchmarks.run` measures all."""
