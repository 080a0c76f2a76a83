"""The syntax of HTTP and of event streams, without knowledge of Flowise (pure)."""
