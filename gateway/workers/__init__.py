"""Several processes on one port: the parent, and what it and the workers know of each other."""
