"""Pictures of the console for the documentation: `python -m tests.pictures`.

They show a made-up market that is built afresh each time, in a real browser on a real server.
"""

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Page

from market.auth import keyring
from market.db import database
from market.embedded import EmbeddedPostgres
from market.events import Event
from market.runs.actions import request_run
from market.settings import Settings, in_force
from tests.conftest import SECRET, migrate
from tests.market.browser import PHONE, Visitors, chromium, visitors, web_process
from tests.market.showcase import Showcase, answer_trial, more_people, more_tasks, react_to, set_up

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
LARGEST_BYTES = 200_000


def main() -> int:
    """Build the market, photograph it, and say which pictures were written."""
    program = chromium()
    if program is None:
        print("no Chromium at /usr/bin/chromium or in CHROMIUM: no picture was made")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="stumpwork-pictures-") as passing,
        EmbeddedPostgres(Path(passing) / "data", durable=False) as postgres,
    ):
        migrate(postgres.url)
        keyring.open(SECRET)
        in_force.open(Settings(database_url=postgres.url, secret_key=SECRET))
        database.open(postgres.url)
        shown = set_up(datetime.now(UTC))
        with web_process(postgres.url, SECRET) as address, visitors(program, address) as people:
            write_pictures(PICTURES, shown, people)
        database.close()
    for picture in sorted(PICTURES.glob("*.png")):
        size = picture.stat().st_size
        print(f"{picture.name:<22} {size:>8,} bytes")
        assert size < LARGEST_BYTES, f"{picture.name} is too large to keep in a repository"
    return 0


def write_pictures(folder: Path, shown: Showcase, people: Visitors) -> None:
    """Photograph the main pages that the documentation shows, in made-up data."""
    folder.mkdir(parents=True, exist_ok=True)
    ops = people.come_in(shown.ops_key)
    ops.goto(f"{people.address}/console/ops/runs")
    ops.get_by_label("Seed").fill("7")
    ops.get_by_role("button", name="Ask for a run").click()
    ops.get_by_text("Waiting for the solver").wait_for()
    react_to(Event.RUN_REQUESTED)
    react_to(*Event)
    ops.goto(ops.url.partition("?")[0])
    ops.get_by_role("heading", name="Offers, and why each pair was chosen").wait_for()
    ops.screenshot(path=folder / "ops-run.png")
    ops.goto(f"{people.address}/console/ops")
    ops.screenshot(path=folder / "ops-today.png", full_page=True)
    ops.goto(f"{people.address}/console/ops/audit")
    ops.screenshot(path=folder / "ops-audit.png")
    lab = people.come_in(shown.lab_key)
    lab.get_by_role("link", name="Frontier questions, round 1").click()
    lab.get_by_role("heading", name="Budget").wait_for()
    lab.screenshot(path=folder / "lab-project.png")
    lab.goto(f"{people.address}/console/lab/money")
    lab.screenshot(path=folder / "lab-money.png")
    expert = people.come_in(shown.expert_key)
    expert.screenshot(path=folder / "expert-offers.png")
    expert.goto(f"{people.address}/console/expert/ability")
    show_charts(expert)
    expert.screenshot(path=folder / "expert-ability.png")
    worker = people.come_in(shown.expert_key, size=PHONE, scheme="dark")
    worker.get_by_role("button", name="Accept").first.click()
    worker.get_by_role("button", name="Start the clock").first.click()
    worker.get_by_role("timer").wait_for()
    worker.screenshot(path=folder / "expert-work-phone.png")
    reviewer = people.come_in(shown.reviewer_key)
    reviewer.screenshot(path=folder / "reviewer-queue.png")
    ops_tries_a_policy(folder, shown, ops, people)


def ops_tries_a_policy(folder: Path, shown: Showcase, ops: Page, people: Visitors) -> None:
    """A version is proposed, previewed on the run before, and tried on half of the experts."""
    more_people(datetime.now(UTC))
    for seed in (9, 10):
        run_over_more(shown, seed)
    ops.goto(f"{people.address}/console/ops/policies")
    ops.get_by_role("link", name="Propose a change").click()
    ops.get_by_label("Urgency", exact=True).fill("0.2")
    ops.get_by_label("Stump", exact=True).fill("0.5")
    ops.get_by_label("Affinity", exact=True).fill("0.8")
    ops.get_by_label("Concentration", exact=True).fill("0.9")
    ops.get_by_label("Perturbation", exact=True).fill("0.12")
    ops.get_by_label("Why", exact=True).fill("Chemistry waits too long; three get too much.")
    ops.get_by_role("button", name="Publish the version").click()
    ops.get_by_role("link", name="Preview it on past runs").click()
    ops.get_by_role("button", name="Preview it").click()
    ops.get_by_text("Waiting for the solver").wait_for()
    react_to(Event.PREVIEW_REQUESTED)
    ops.get_by_role("heading", name="Who gains, who loses").wait_for()
    show_charts(ops)
    ops.get_by_role("heading", name="Today and the candidate").evaluate(
        "one => one.scrollIntoView()"
    )
    ops.screenshot(path=folder / "ops-preview.png")
    ops.get_by_role("link", name="Try it on a tenth").click()
    ops.get_by_label("Name").fill("Chemistry waits less")
    ops.get_by_label("Share treated").fill("20")
    ops.get_by_label("Judged by").select_option("accepted")
    ops.get_by_label("Why").fill("Chemistry waits too long.")
    ops.get_by_role("button", name="Write it down").click()
    ops.get_by_role("button", name="Start it").click()
    for seed in (11, 12, 13, 14):
        run_over_more(shown, seed)
        answer_trial(datetime.now(UTC))
        ops.get_by_role("button", name="Look now").click()
    show_charts(ops)
    ops.screenshot(path=folder / "ops-experiment.png")


def run_over_more(shown: Showcase, seed: int) -> None:
    """Forty more tasks, and a run that offers them."""
    more_tasks(shown.project_id, 100 * seed, datetime.now(UTC))
    with database.begin() as session:
        request_run(session, seed=seed, at=datetime.now(UTC))
    react_to(Event.RUN_REQUESTED)


def show_charts(page: Page) -> None:
    """Have every chart drawn, also those below what the window shows."""
    page.evaluate(
        "Promise.all([...document.images].map((one) => { one.loading = 'eager';"
        " return one.decode(); }))"
    )


if __name__ == "__main__":
    sys.exit(main())
