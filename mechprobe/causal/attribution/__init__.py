"""Which SAE features and hook points carry a probe's score, a logit difference or one token's logit."""
