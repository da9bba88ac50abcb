"""Whether a direction drives a behaviour: edits at a site, their controls, and a verdict."""
