"""What several test modules share; `pythonpath` in setup.cfg lets them import it."""
