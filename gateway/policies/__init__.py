"""One file for each concern of a request. Policies do not import each other; `app.py` has their order."""
