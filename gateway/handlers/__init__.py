"""The end of the pipeline: one file for each kind of request."""
