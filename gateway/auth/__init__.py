"""Who is calling: API keys, session tokens, JWTs, and the conversation ids that belong to one caller."""
