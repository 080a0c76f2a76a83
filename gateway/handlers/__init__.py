"""What happens at the end of the walk: one file for each kind of request."""
