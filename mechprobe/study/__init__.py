"""A whole study from one TOML file: the stages in order, resumed where they stopped."""
