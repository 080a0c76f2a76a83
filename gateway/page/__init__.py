"""The live page without its HTTP: what one process knows, the state of all of them, and what has changed in it.

With no viewer nothing is gathered. What a request costs is in `recent`, what the last hour costs in `history`.
"""
