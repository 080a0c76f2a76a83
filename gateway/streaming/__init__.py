"""Bytes, boundaries and sinks: how an answer gets to a client as it comes. Nothing here knows Flowise."""
