"""What the README shows works as it stands there."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from market.auth import keyring
from market.cli import MADE_UP_PEOPLE
from market.db import database
from market.replay.keys import open_here, ops_key
from market.settings import in_force
from market.supervisor import Market
from market.treasury.jobs import reconcile_stripe
from tests.conftest import SECRET

REPOSITORY = Path(__file__).parent.parent


def journey() -> str:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine: did not run")
def test_the_journey_by_hand_ends_with_the_money_in_the_bank() -> None:
    before = in_force._settings
    # A folder that others may enter, since the server may run as another account.
    folder = Path(tempfile.mkdtemp(prefix="stumpwork-readme-"))
    try:
        house = Market(
            folder,
            durable=False,
            instant_onboarding=True,
            environ={**os.environ, **MADE_UP_PEOPLE},
        )
        with house.start():
            open_here(house.environment)
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", journey()],
                env={
                    **os.environ,
                    "BASE": house.addresses.web,
                    "OPS": ops_key("ops@readme.example"),
                    "MODEL": house.addresses.target_model or "",
                },
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            reconcile_stripe("after the journey")
            database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        keyring.open(SECRET)
        if before is not None:
            in_force.open(before)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert '"state":"paid"' in ran.stdout.replace(" ", "")
    assert '"created":1' in ran.stdout.replace(" ", "")


def test_the_files_that_the_readme_points_to_are_there() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (REPOSITORY / target).exists(), target
