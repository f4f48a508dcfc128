"""What a test needs of its machine: skipped where it is missing, but never in CI."""

import os
import shutil
from typing import NoReturn

import pytest


def skip_or_fail(missing: str) -> NoReturn:
    """Skip the test and say what is missing; with CI set, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {missing}")
    pytest.skip(missing)


def require_program(*names: str, package: str) -> str:
    """Return the path of the first program found; `package` is Debian's name."""
    for name in names:
        if path := shutil.which(name):
            return path
    skip_or_fail(f"needs {names[0]} (Debian package {package})")
