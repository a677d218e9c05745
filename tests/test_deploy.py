"""The files in `deploy/` name what is there: settings, modules, queues. None is started here."""

import configparser
import importlib.util
import re
from pathlib import Path

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]

from market.broker import QUEUES
from market.settings import PREFIX, Settings

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RUNBOOK = (DEPLOY / "README.md").read_text()
MODULE = re.compile(r"python(?:3|, | )*-m(?:, | )(market\.[a-z_]+)")


def settings_table() -> dict[str, str]:
    """Each variable of the runbook's table with its default, as written."""
    rows = re.findall(r"^\| `(STUMPWORK_[A-Z_]+)` \|.*\| ([^|]+) \|$", RUNBOOK, re.MULTILINE)
    return dict(rows)


def test_the_runbook_has_a_row_for_every_setting_and_for_nothing_else() -> None:
    fields = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    assert set(settings_table()) == fields


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_the_runbook_tells_the_default_of_a_setting(field: msgspec.structs.FieldInfo) -> None:
    told = settings_table()[PREFIX + field.name.upper()]
    if field.required:
        assert told == "none, required"
    elif field.default == "":
        assert told == "empty"
    else:
        assert isinstance(field.default, str | int | bool)
        text = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert told.startswith(f"`{text}`")


@pytest.mark.parametrize("file", sorted(path for path in DEPLOY.rglob("*") if path.is_file()))
def test_every_module_that_a_file_starts_is_there(file: Path) -> None:
    for module in MODULE.findall(file.read_text()):
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("*.example")), ids=lambda file: file.name)
def test_an_example_names_only_settings_that_exist_and_holds_no_secret(file: Path) -> None:
    for line in file.read_text().splitlines():
        name, _, value = line.partition("=")
        if name.startswith(PREFIX):
            assert name in settings_table()
        if name.endswith(("_KEY", "_SECRET", "PASSWORD")):
            assert value == ""


def test_compose_starts_every_process_once_the_database_is_up_to_date() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = {name: service for name, service in services.items() if service["image"] == "stumpwork"}
    wanted = {"upgrade", "web", "relay", "courier", "keeper", "worker-money", "worker-solver"}
    assert set(ours) == wanted
    queues: list[str] = []
    for name, service in ours.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["env_file"] == ["stumpwork.env"]
        if name != "upgrade":
            upgraded = service["depends_on"]["upgrade"]
            assert upgraded == {"condition": "service_completed_successfully"}
        if "--queues" in service["command"]:
            queues += service["command"][service["command"].index("--queues") + 1].split(",")
    assert sorted(queues) == sorted(QUEUES)
    for storage in ("postgres", "redis"):
        assert services[storage]["env_file"] == ["storage.env"]
        assert "healthcheck" in services[storage]


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("systemd/*")), ids=lambda file: file.name)
def test_a_service_file_is_hardened_and_runs_as_nobody_special(file: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(file.read_text())
    service = unit["Service"]
    assert service["User"] == "stumpwork"
    assert service["ExecStart"].startswith("/opt/stumpwork/bin/python -m market.")
    for lock in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert service[lock] == "yes"
    assert service["ProtectSystem"] == "strict"
    if file.name != "stumpwork-upgrade.service":
        assert unit["Unit"]["Requires"] == "stumpwork-upgrade.service"
        assert service["Restart"] == "always"
