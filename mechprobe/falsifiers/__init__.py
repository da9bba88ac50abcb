"""Tests that a probe or feature must survive before it may be said to read a thought rather than its words."""
