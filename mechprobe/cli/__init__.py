"""The command line: one dataclass for each command, no logic of its own."""
