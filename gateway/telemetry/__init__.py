"""Metric names and the logger. Knows no `Exchange`: the policies `metrics` and `access_log` record requests."""
