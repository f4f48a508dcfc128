"""Python's own loop in place of uvloop's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.asyncio_reactor,
    pytest.mark.process,
    pytest.mark.skipif("AIOREST_WS_TEST_LOOP" in os.environ, reason="this is that run"),
]

HERE = Path(__file__).parent


@pytest.mark.parametrize("which", ["native and not test_acceptor", "test_acceptor"])
def test_the_tests_of_this_folder_pass_on_the_loop_of_python_itself(which):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--reactor=asyncio", "-q", "-p", "no:cacheprovider"),
            *(str(HERE), "-k", which, "-m", "not process"),
        ],
        cwd=HERE.parents[2],
        env={**os.environ, "AIOREST_WS_TEST_LOOP": "asyncio"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
