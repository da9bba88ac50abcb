"""Solvers: all indicators and strengths in shared passes, in memory or from a store, dense or sparse."""
