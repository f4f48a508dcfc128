"""What tests/constraints.txt and tests/floors.txt pin, beside what is installed and declared."""

import configparser
import os
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
# tox names the file with which it has installed; without tox, anything may be installed.
PINS = os.environ.get("AIOREST_WS_PINS")

# Ours, and what virtualenv puts in each environment; tox.ini pins virtualenv.
NOT_PINNED = {"aiorest-ws", "pip", "setuptools"}


def versions(lines: Iterable[str], operator: str) -> dict[str, Version]:
    """Return the version behind `operator` of each requirement that applies to this Python."""
    found = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            [version] = [s.version for s in requirement.specifier if s.operator == operator]
            found[canonicalize_name(requirement.name)] = Version(version)
    return found


def pinned(path: Path) -> dict[str, Version]:
    return versions(path.read_text(encoding="utf-8").splitlines(), "==")


@pytest.mark.skipif(not PINS, reason="tox has not pinned what is installed here")
def test_what_is_installed_is_what_is_pinned():
    pins = pinned(Path(PINS))
    installed = {
        canonicalize_name(found.name): Version(found.version)
        for found in distributions()
        if found.name not in NOT_PINNED
    }
    names = installed.keys()
    if Path(PINS).name == "floors.txt":
        # It names direct dependencies only, those of the documentation included.
        names &= pins.keys()
    assert {name: installed[name] for name in names} == {name: pins.get(name) for name in names}


def test_the_floors_are_those_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    declared = [config["options"]["install_requires"], *extras.values()]
    lines = [line for text in declared for line in text.splitlines()]
    own = [line for line in lines if not line.startswith("aiorest-ws[")]
    assert pinned(ROOT / "tests" / "floors.txt") == versions(own, ">=")
