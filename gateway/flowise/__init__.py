"""Everything that knows Flowise: its endpoints, bodies, events and habits. Pure but for uploads and `control`."""
