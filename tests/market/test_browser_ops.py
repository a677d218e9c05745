"""Ops tune the weights in a real browser, from a doubt to a run; no page bars anybody."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import select

from market.auth import Part
from market.db import database
from market.events import Event, emit
from market.experiments.models import Exposure
from market.feeds import publish
from market.people.actions import sign_up
from market.runs.actions import request_run
from market.settings import Settings
from tests.conftest import SECRET
from tests.market.browser import DESK, PHONE, Visitors, chromium, visitors, web_process
from tests.market.showcase import Showcase, answer_trial, more_people, more_tasks, react_to, set_up
from tests.market.test_browser import assert_fits
from tests.market.test_console_tests import drifted

PROGRAM = chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        PROGRAM is None, reason="no Chromium at /usr/bin/chromium or in CHROMIUM: nothing was seen"
    ),
]
PAGES = (
    "/signals",
    "/signals/calibration",
    "/signals/alarms",
    "/signals/releases",
    "/experts/tests",
    "/experts/tests/sittings",
    "/experts/profiles",
    "/experts/messages",
    "/policies",
    "/policies/previews",
    "/policies/experiments",
    "/policies/experiments/new",
    "/disputes",
    "/cases",
    "/cases/frauds",
    "/cases/frauds/new",
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


def test_ops_doubt_change_two_weights_preview_try_keep_and_take_back(
    scene: tuple[Showcase, Visitors],
) -> None:
    shown, people = scene
    more_people(datetime.now(UTC))
    page = people.come_in(shown.ops_key)
    a_run_of_last_week(page)
    # Chemistry waits too long: where does it stand, and what is obeyed?
    page.get_by_role("link", name="Frontier").click()
    see_picture(page, "Stump rate by level")
    page.get_by_role("link", name="Forecasts", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Forecasts")
    page.get_by_role("link", name="Policies").click()
    page.get_by_role("link", name="Propose a change").click()
    page.get_by_label("Urgency", exact=True).fill("0.8")
    page.get_by_label("Concentration", exact=True).fill("0.6")
    page.get_by_label("Why", exact=True).fill("Chemistry waits too long; three get too much.")
    page.get_by_role("button", name="Publish the version").click()
    expect(page.get_by_text("Urgency counts 8 times as much")).to_be_visible()
    expect(page.get_by_text("You wrote it, so somebody else has to")).to_be_visible()
    version = page.url.partition("?")[0]
    preview_it(page)
    trial = try_it_on_a_tenth(page, version)
    watch_it(page, shown)
    # It is kept only when a colleague, who opens the same address, agrees.
    keep_it(page)
    expect(page.get_by_text("has to approve this policy first")).to_be_visible()
    # The browser notes a page that says no; this one was asked for.
    assert "409" in people.complaints.pop()
    a_colleague_agrees(people, version)
    page.goto(trial)
    keep_it(page)
    expect(page.get_by_role("status")).to_contain_text("Kept, in your name")
    page.goto(version)
    expect(page.get_by_role("heading", level=1)).to_contain_text("obeyed")
    # And it is taken back with one click.
    page.goto(trial)
    page.get_by_role("button", name="Return to the policy before").click()
    expect(page.get_by_role("status")).to_contain_text("obeyed again")
    page.goto(version)
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("obeyed")


def a_run_of_last_week(page: Page) -> None:
    """Ask for a run, follow it to its offers, and ask it why; what it kept is replayed later."""
    page.get_by_role("link", name="Matching runs").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Ask for a run").click()
    expect(page.get_by_text("Waiting for the solver")).to_be_visible()
    assert react_to(Event.RUN_REQUESTED) == 1
    expect(page.get_by_role("heading", name="Offers, and why each pair was chosen")).to_be_visible()
    page.get_by_role("link", name="Ask why, about any task, expert or pair").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why, or why not?")


def see_picture(page: Page, name: str) -> None:
    """The picture of a chart is there and can be read."""
    picture = page.get_by_role("img", name=name).first
    picture.scroll_into_view_if_needed()
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")


def preview_it(page: Page) -> None:
    """See on past runs who would gain and lose, and what cannot be told."""
    page.get_by_role("link", name="Preview it on past runs").click()
    page.get_by_role("button", name="Preview it").click()
    expect(page.get_by_text("Waiting for the solver")).to_be_visible()
    assert react_to(Event.PREVIEW_REQUESTED) == 1
    # The page looks again by itself.
    expect(page.get_by_role("heading", name="Who gains, who loses")).to_be_visible()
    expect(page.get_by_role("heading", name="What cannot be told")).to_be_visible()
    see_picture(page, "What would change")
    see_picture(page, "Seats filled by field")


def try_it_on_a_tenth(page: Page, version: str) -> str:
    """Design a canary from the preview and start it; its address."""
    page.get_by_role("link", name="Try it on a tenth").click()
    page.get_by_label("Name").fill("Chemistry waits less")
    page.get_by_label("Judged by").select_option("accepted")
    page.get_by_label("Why").fill("Chemistry waits too long.")
    chosen = page.get_by_label("Version tried").evaluate("field => field.value")
    assert chosen == version.rpartition("/")[2]
    page.get_by_role("button", name="Write it down").click()
    expect(page.get_by_text("It has not begun")).to_be_visible()
    trial = page.url.partition("?")[0]
    page.get_by_role("button", name="Start it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    return trial


def watch_it(page: Page, shown: Showcase) -> None:
    """A run draws its pairs by arm, people answer, and the page says what is known."""
    more_tasks(shown.project_id, 200, datetime.now(UTC))
    with database.begin() as session:
        request_run(session, seed=11, at=datetime.now(UTC))
    assert react_to(Event.RUN_REQUESTED) == 1
    with database.begin() as session:
        # Who is treated is drawn by a hash, so that a run may touch the control alone.
        assert "control" in set(session.scalars(select(Exposure.arm)))
    answer_trial(datetime.now(UTC))
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_role("heading", name="Guardrails")).to_be_visible()
    expect(page.get_by_text("too early to tell").first).to_be_visible()
    expect(page.get_by_role("row", name="Treated balanced, version")).to_be_visible()


def keep_it(page: Page) -> None:
    """Press what keeps a trial, with a reason."""
    page.locator("summary").filter(has_text="Keep it").click()
    page.get_by_label("Why it is kept").fill("Nobody waits longer, and some wait less.")
    page.get_by_role("button", name="Keep it").click()


def a_colleague_agrees(people: Visitors, version: str) -> None:
    """A second person of ops approves what the first one wrote."""
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


def test_a_page_shows_by_itself_what_has_just_happened(scene: tuple[Showcase, Visitors]) -> None:
    shown, people = scene
    page = people.come_in(shown.ops_key)
    page.goto(f"{people.address}/console/ops/signals/alarms")
    expect(page.get_by_text("No alarm waits.")).to_be_visible()
    page.evaluate("window.opened = 'once'")
    at = datetime.now(UTC)
    with database.begin() as session:
        emit(session, Event.QUALITY_ALERT, drifted(session), at=at)
        publish(session, at=at)
    # The event stream tells the page's script, which reads that part of the page again.
    expect(page.get_by_text("Three in ten were expected, one in ten came.")).to_be_visible()
    assert page.evaluate("window.opened") == "once"
