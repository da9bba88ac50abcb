"""How the directions of a bank lie to each other, what they share, and what is left without it."""
