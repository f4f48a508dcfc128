"""Parts of test_fuzz.py, which loads them by their path."""
