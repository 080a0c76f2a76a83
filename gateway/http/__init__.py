"""HTTP syntax and event streams, pure; nothing here knows Flowise."""
