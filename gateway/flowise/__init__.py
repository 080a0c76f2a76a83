"""What is particular to Flowise: its endpoints, bodies, events and errors (pure)."""
