"""Whether the locks hold what `pyproject.toml` asks for, with hashes and without addresses.

It needs no network: it cannot know of newer versions, only that nothing asked for is missing, too
old or too new, and that what is installed here is what the lock says.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;\\]+)(?P<rest>[^\\]*)\\?$"
)


def read_lock(name: str) -> tuple[dict[str, Requirement], list[str]]:
    """The pins of a lock by name, and what is wrong with its lines."""
    pins: dict[str, Requirement] = {}
    complaints: list[str] = []
    hashed = True
    last = ""
    for line in (REPOSITORY / name).read_text().splitlines():
        if "://" in line or line.startswith("-"):
            complaints.append(f"{name}: names a place to fetch from: {line.strip()}")
        if line.startswith((" ", "#")) or not line.strip():
            hashed = hashed or "--hash=sha256:" in line
            continue
        found = PIN.match(line)
        if found is None:
            complaints.append(f"{name}: not a pinned version: {line.strip()}")
            continue
        if not hashed:
            complaints.append(f"{name}: {last} has no hash")
        hashed, last = False, found["name"]
        text = f"{found['name']}=={found['version']}{found['rest']}".strip()
        pins[canonicalize_name(found["name"])] = Requirement(text)
    if not hashed:
        complaints.append(f"{name}: {last} has no hash")
    return pins, complaints


def unmet(wanted: list[str], pins: dict[str, Requirement], name: str) -> list[str]:
    """The requirements that a lock does not meet."""
    complaints = []
    for text in wanted:
        requirement = Requirement(text)
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            complaints.append(f"{name}: {requirement.name} is missing")
        elif not requirement.specifier.contains(version_of(pin), prereleases=True):
            complaints.append(f"{name}: {pin} does not meet {text}")
    return complaints


def version_of(pin: Requirement) -> str:
    """The one version that a pin allows."""
    return next(iter(pin.specifier)).version


def not_installed(pins: dict[str, Requirement]) -> list[str]:
    """The pins that this environment does not follow."""
    complaints = []
    for name, pin in pins.items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            complaints.append(f"installed: {name} is missing; run make install")
            continue
        if found != version_of(pin):
            complaints.append(f"installed: {name} is {found}, the lock says {version_of(pin)}")
    return complaints


def main() -> int:
    """Print what is wrong, a line each."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    run, run_complaints = read_lock("requirements.txt")
    dev, dev_complaints = read_lock("requirements-dev.txt")
    wanted = list(project["dependencies"])
    complaints = [
        *run_complaints,
        *dev_complaints,
        *unmet(wanted, run, "requirements.txt"),
        *unmet([*wanted, *project["optional-dependencies"]["dev"]], dev, "requirements-dev.txt"),
        *(
            f"requirements-dev.txt: {dev.get(name)} where requirements.txt has {pin}"
            for name, pin in run.items()
            if str(dev.get(name)) != str(pin)
        ),
        *not_installed(dev),
    ]
    for complaint in complaints:
        print(f"locks: {complaint}")
    if not complaints:
        print(f"locks: {len(run)} packages to run, {len(dev)} to develop, all as asked for")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
