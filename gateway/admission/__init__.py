"""How much: what may happen at once, and how often."""
