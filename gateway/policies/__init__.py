"""The rooms of a request's walk: one concern each. They do not know each other; `app.py` has their order."""
