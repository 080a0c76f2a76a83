"""The process: sockets, listeners, signals, workers."""
