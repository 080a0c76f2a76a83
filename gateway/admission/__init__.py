"""Admission control: rate, token and concurrency limits, and one run at a time per conversation."""
