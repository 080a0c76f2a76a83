"""One request in flight to Flowise, from the upstream connection to the client's transport."""
