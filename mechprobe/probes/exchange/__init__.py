"""Probes as files: a bank with what its makers say, other people's formats read without running them, and exports."""
