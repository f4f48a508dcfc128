"""What the proofs under load share. They need Linux: /proc, affinity, addresses 127.x."""

import contextlib
import json
import resource
import sys
from pathlib import Path

import pytest

# Tests are no package, and the processes import `soak` from here, too.
sys.path.append(str(Path(__file__).resolve().parent.parent))

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]

from soak.processes import Family

REPORT = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[REPORT] = []


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)


@pytest.fixture
def say(request):
    """Put measured numbers into the summary of the run."""
    name = request.node.name

    def say(**numbers):
        request.config.stash[REPORT].append(f"soak {name}: {json.dumps(numbers)}")

    return say


@pytest.fixture
def family(tmp_path):
    """Start servers and clients."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.closing(Family(tmp_path)) as family:
        yield family
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
