"""The life of the process: sockets, listeners, workers."""
