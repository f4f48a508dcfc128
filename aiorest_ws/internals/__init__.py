"""Names of other libraries that are not public: one module for each library.

Every such name stands in a table in `tests/aiorest_ws/test_internals.py`, which fails when a
new release has lost it.
"""

__all__ = ()
