"""Parts of test_differential.py, which loads them by their path."""
