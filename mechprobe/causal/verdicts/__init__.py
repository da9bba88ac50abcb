"""From effects to a verdict: strata, statistics, evidence and the rule."""
