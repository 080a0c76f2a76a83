"""The shared limit store: a Redis or Valkey that all gateways ask."""
