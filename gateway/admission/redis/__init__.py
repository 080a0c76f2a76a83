"""Limits and conversation locks shared by all processes, in a Redis or Valkey."""
