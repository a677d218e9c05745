"""Ops tune the weights in a real browser, from a doubt to a run; no page bars anybody."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from market.auth import Part
from market.db import database
from market.events import Event
from market.people.actions import sign_up
from market.settings import Settings
from tests.conftest import SECRET
from tests.market.browser import DESK, PHONE, Visitors, chromium, visitors, web_process
from tests.market.showcase import Showcase, react_to, set_up
from tests.market.test_browser import assert_fits

PROGRAM = chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        PROGRAM is None, reason="no Chromium at /usr/bin/chromium or in CHROMIUM: nothing was seen"
    ),
]
PAGES = (
    "/signals",
    "/policies",
    "/cases",
    "/audit",
    "/webhooks",
    "/money",
    "/money/runs",
    "/money/holds",
    "/money/reconciliation",
    "/money/disputes",
)


@pytest.fixture(scope="module")
def scene(server: str, settings: Settings) -> Iterator[tuple[Showcase, Visitors]]:
    """A made-up market, its web as a process, and a browser; at the end nobody has complained."""
    del settings
    assert PROGRAM is not None
    url = server.rsplit("/", 1)[0] + "/opsroom"
    admin = server.replace("+psycopg", "").rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("create database opsroom template stumpwork")
    database.open(url)
    shown = set_up(datetime.now(UTC))
    with web_process(url, SECRET) as address, visitors(PROGRAM, address) as people:
        yield shown, people
    database.close()
    assert people.complaints == []
    assert people.hosts <= {"127.0.0.1", "data"}


def test_ops_tune_the_weights_with_a_colleague_and_ask_a_run_why(
    scene: tuple[Showcase, Visitors],
) -> None:
    shown, people = scene
    page = people.come_in(shown.ops_key)
    # Chemistry waits too long: where does it stand, and what is obeyed?
    page.get_by_role("link", name="Frontier").click()
    picture = page.get_by_role("img", name="Stump rate by level")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    page.get_by_role("link", name="Policies").click()
    page.get_by_role("link", name="Propose a change").click()
    page.get_by_label("Urgency", exact=True).fill("0.8")
    page.get_by_label("Concentration", exact=True).fill("0.6")
    page.get_by_label("Why", exact=True).fill("Chemistry waits too long; three get too much.")
    page.get_by_role("button", name="Publish the version").click()
    expect(page.get_by_text("Urgency counts 8 times as much")).to_be_visible()
    expect(page.get_by_text("You wrote it, so somebody else has to")).to_be_visible()
    version = page.url.partition("?")[0]
    # A colleague opens the same address and agrees.
    with database.begin() as session:
        second = sign_up(
            session,
            part=Part.OPS,
            name="Ada Brandt",
            email="ada@showcase.example",
            at=datetime.now(UTC),
        )
    colleague = people.come_in(second.secret)
    colleague.goto(version)
    colleague.locator("summary").filter(has_text="Approve it").click()
    colleague.get_by_label("Why it is right").fill("Both weights were too low.")
    colleague.get_by_role("button", name="Approve it").click()
    expect(colleague.get_by_text("Approved by Ada Brandt")).to_be_visible()
    page.goto(version)
    page.locator("summary").filter(has_text="Put it to use").click()
    page.get_by_label("Why now").fill("The week begins.")
    page.get_by_role("button", name="Put it to use").click()
    expect(page.get_by_text("Runs that name no policy obey this version")).to_be_visible()
    # A run obeys it, and can be asked why.
    page.get_by_role("link", name="Matching runs").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Ask for a run").click()
    expect(page.get_by_text("Waiting for the solver")).to_be_visible()
    assert react_to(Event.RUN_REQUESTED) == 1
    page.get_by_role("link", name="Ask why, about any task, expert or pair").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why, or why not?")


def test_pages_of_ops_bar_nobody_and_fit_every_screen(scene: tuple[Showcase, Visitors]) -> None:
    shown, people = scene
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        page = people.come_in(shown.ops_key, size=size, scheme=scheme)
        for path in PAGES:
            page.goto(f"{people.address}/console/ops{path}")
            assert_fits(page, size)
            assert_open_to_all(page)
        page.goto(f"{people.address}/console/ops/policies")
        page.get_by_role("link", name="Propose a change").click()
        assert_fits(page, size)
        assert_open_to_all(page)
        page.context.close()


def assert_open_to_all(page: Page) -> None:
    """No barrier that axe calls serious or worse stands on the page."""
    found = [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}"
        for one in Axe().run(page)["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert found == [], f"{page.url}: {found}"
