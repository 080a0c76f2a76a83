"""Hostile inputs, one table for each kind; a runner sends them one by one and mixed, under a watchdog.

To add a kind, write a module with a table and give it to its runner.
"""
