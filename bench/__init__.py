"""Measurements of both packages; `python -m bench` says which."""
