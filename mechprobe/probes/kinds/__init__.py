"""Ways to fit a probe: closed form, sparse, trees, networks, and probes that read a whole unit."""
