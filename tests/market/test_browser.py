"""The console in a real browser, from a real server process: ops, an expert and a lab at work."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import axe_core_python
import psycopg
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select, update

from market.db import database
from market.events import Event
from market.projects.models import Project
from market.settings import Settings
from market.work.models import TimeEntry, WorkSession
from tests.conftest import SECRET
from tests.factories import give_money
from tests.market.browser import DESK, PATIENCE_MS, PHONE, Visitors, chromium, visitors, web_process
from tests.market.showcase import Showcase, react_to, set_up

PROGRAM = chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        PROGRAM is None, reason="no Chromium at /usr/bin/chromium or in CHROMIUM: nothing was seen"
    ),
]
expect.set_options(timeout=PATIENCE_MS)

PAGES = {
    "ops": ("", "/runs", "/offers", "/experts", "/money", "/queues"),
    "lab": ("", "/money", "/hours", "/webhooks", "/projects/new", "/disputes", "/messages"),
    "expert": (
        "",
        "/work",
        "/earnings",
        "/ability",
        "/profile",
        "/disputes",
        "/disputes/new",
        "/tests",
        "/cases",
    ),
    "reviewer": ("",),
}


@pytest.fixture(scope="module")
def scene(server: str, settings: Settings) -> Iterator[tuple[Showcase, Visitors]]:
    """A made-up market, its web as a process, and a browser; at the end nobody has complained.

    One for all tests here, which leave each other what they did.
    """
    del settings
    assert PROGRAM is not None
    url = server.rsplit("/", 1)[0] + "/showcase"
    admin = server.replace("+psycopg", "").rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("create database showcase template stumpwork")
    database.open(url)
    shown = set_up(datetime.now(UTC))
    with web_process(url, SECRET) as address, visitors(PROGRAM, address) as people:
        yield shown, people
    database.close()
    assert people.complaints == []
    assert people.hosts <= {"127.0.0.1", "data"}


@pytest.mark.slow
def test_people_work_with_the_console_in_a_browser(scene: tuple[Showcase, Visitors]) -> None:
    shown, people = scene
    ops_runs_the_market(shown, people)
    an_expert_works(shown, people)
    a_lab_sees_progress(shown, people)
    no_page_scrolls_sideways(shown, people)


def ops_runs_the_market(shown: Showcase, people: Visitors) -> None:
    page = people.come_in(shown.ops_key)
    expect(page.get_by_role("heading", level=1)).to_have_text("The market today")
    page.get_by_role("link", name="Matching runs").click()
    page.get_by_label("Project").select_option(label="Frontier questions, round 1")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Ask for a run").click()
    expect(page.get_by_text("Waiting for the solver")).to_be_visible()
    assert react_to(Event.RUN_REQUESTED) == 1
    # The page looks again by itself.
    expect(page.get_by_role("heading", name="Offers, and why each pair was chosen")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="Ines Moreau").first
    expect(row).to_contain_text("Good chance of a stump")
    expect(row).to_contain_text("Profile near the task")
    row.get_by_text("In one sentence").click()
    expect(row.get_by_text("Chosen for")).to_be_visible()


def an_expert_works(shown: Showcase, people: Visitors) -> None:
    page = people.come_in(shown.expert_key, size=PHONE, scheme="dark")
    card = page.get_by_role("region", name="Offer of Frontier questions, round 1").first
    expect(card).to_contain_text(re.compile(r"150\.00\sUSD an hour"))
    expect(card).to_contain_text("silence is paid as accepted")
    card.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status")).to_contain_text("The offer is yours")
    page.get_by_role("button", name="Start the clock").first.click()
    clock = page.get_by_role("timer")
    # It moves without a reload.
    expect(clock).to_have_text(re.compile(r"^([2-9]|[1-5]\d)\ss$"))
    half_a_minute_passes(shown)
    page.reload()
    expect(clock).to_have_text(re.compile(r"^[3-5]\d\ss$"))
    page.get_by_role("button", name="Stop the clock", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The clock has stopped")
    with database.begin() as session:
        entry = session.scalars(
            select(TimeEntry)
            .where(TimeEntry.expert_id == shown.expert_id)
            .order_by(TimeEntry.id.desc())
        ).first()
    assert entry is not None
    assert entry.seconds >= 30
    page.get_by_role("link", name="Work", exact=True).click()
    recorded = page.get_by_role("row").filter(has_text=f"{entry.seconds}\u00a0s").first
    expect(recorded).to_be_visible()
    page.get_by_role("link", name="Earnings").click()
    expect(page.get_by_text("set up your payouts").first).to_be_visible()


def half_a_minute_passes(shown: Showcase) -> None:
    """Set an open session back by half a minute: the service reads its clock, and nobody waits."""
    back = timedelta(seconds=30)
    with database.begin() as session:
        session.execute(
            update(WorkSession)
            .where(WorkSession.expert_id == shown.expert_id, WorkSession.state == "running")
            .values(
                started_at=WorkSession.started_at - back,
                stretch_at=WorkSession.stretch_at - back,
            )
        )


def a_lab_sees_progress(shown: Showcase, people: Visitors) -> None:
    page = people.come_in(shown.lab_key)
    page.get_by_role("link", name="Frontier questions, round 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Frontier questions, round 1")
    expect(page.get_by_role("img", name=re.compile("9 of 20 tasks done, 1 moving"))).to_be_visible()
    expect(page.get_by_text("6 of 9; likely").first).to_be_visible()
    page.get_by_role("link", name="Spend").click()
    expect(page.get_by_text("9,000.00\u00a0USD").first).to_be_visible()


def keys_of(shown: Showcase) -> dict[str, str]:
    """The key of each part."""
    return {
        "ops": shown.ops_key,
        "lab": shown.lab_key,
        "expert": shown.expert_key,
        "reviewer": shown.reviewer_key,
    }


@pytest.mark.slow
def test_no_main_page_has_a_serious_finding_of_axe(scene: tuple[Showcase, Visitors]) -> None:
    shown, people = scene
    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()
    found = []
    for scheme in ("light", "dark"):
        for part, paths in PAGES.items():
            page = people.come_in(keys_of(shown)[part], scheme=scheme)
            for path in paths:
                page.goto(f"{people.address}/console/{part}{path}")
                found += [(scheme, part + path, *one) for one in findings(page, axe)]
            page.context.close()
    assert found == []


@pytest.mark.slow
def test_no_page_that_a_link_leads_to_has_a_serious_finding(
    scene: tuple[Showcase, Visitors],
) -> None:
    shown, people = scene
    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()
    found = []
    seen = 0
    for part, key in keys_of(shown).items():
        page = people.come_in(key)
        ahead, kinds = [f"/console/{part}"], set[str]()
        while ahead:
            path = ahead.pop()
            answer = page.goto(people.address + path)
            assert answer is not None
            if "html" not in answer.headers["content-type"]:
                continue
            seen += 1
            found += [(path, *one) for one in findings(page, axe)]
            if answer.status != 200:
                found.append((path, str(answer.status), ""))
            links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.pathname)")
            for link in links:
                kind = re.sub(r"[a-z]+_[0-9a-f]{32}", "ID", link)
                is_file = re.search(r"\.(csv|jsonl|svg|json)$|/record$|/static/", link)
                if link.startswith("/console/") and not is_file and kind not in kinds:
                    kinds.add(kind)
                    ahead.append(link)
        page.context.close()
    assert found == []
    assert seen > 80


def findings(page: Page, axe: str) -> list[tuple[str, str]]:
    """What axe holds to be serious or worse on a page: the rule, and the first place."""
    page.evaluate(axe)
    said = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], one["nodes"][0]["html"][:160])
        for one in said["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.slow
def test_a_lab_sets_its_first_project_up_and_launches_it(
    scene: tuple[Showcase, Visitors], tmp_path: Path
) -> None:
    shown, people = scene
    tasks = tmp_path / "tasks.csv"
    tasks.write_text(
        "external_id,domain,payload,expected_s\n"
        'first-1,chemistry.organic,"{""instructions"": ""Why?""}",1200\n'
        "first-2,chemistry.organic,not json,1200\n"
    )
    page = people.come_in(shown.lab_key)
    page.get_by_role("link", name="New project").click()
    page.get_by_label("Name", exact=True).fill("A first project")
    page.get_by_label("Brief").fill("Questions that it gets wrong.")
    page.get_by_label("Domains, one a line").fill("chemistry.organic")
    page.get_by_label("Rate an hour").fill("150.00")
    page.get_by_role("button", name="Draft the project").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Set up: A first project")
    page.get_by_role("button", name="Test this one").click()
    expect(page.get_by_role("status")).to_contain_text("The target model is there")
    page.get_by_label("A file of tasks").set_input_files(tasks)
    page.get_by_role("button", name="Take them in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 2 rows became tasks")
    with database.begin() as session:
        lab_id = session.get_one(Project, shown.project_id).organisation_id
        give_money(session, lab_id, 200_000, at=datetime.now(UTC))
    page.get_by_role("link", name="Go on with the project").click()
    page.get_by_label("Give it, in USD").fill("2000.00")
    page.get_by_role("button", name="Give", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The money is the project's now")
    page.get_by_role("button", name="Check and launch").click()
    expect(page.get_by_role("status")).to_contain_text("The project is live")
    expect(page.get_by_role("heading", level=1)).to_contain_text("live")


def no_page_scrolls_sideways(shown: Showcase, people: Visitors) -> None:
    keys = keys_of(shown)
    for size in (PHONE, DESK):
        for part, paths in PAGES.items():
            page = people.come_in(keys[part], size=size)
            home = f"{people.address}/console/{part}"
            inner = {"ops": "/runs", "lab": ""}.get(part)
            for path in paths:
                page.goto(home + path)
                assert_fits(page, size)
            if inner is not None:
                page.goto(home + inner)
                page.locator("main a[href*='_']").first.click()
                page.get_by_role("heading", name=re.compile("why each pair|Budget")).wait_for()
                assert_fits(page, size)
            page.context.close()


def assert_fits(page: Page, size: tuple[int, int]) -> None:
    # After a click, the page may be asked before its style has come.
    page.wait_for_load_state()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= size[0], f"{page.url} is {wide} wide on a screen of {size[0]}"


def test_pages_read_without_scripts_and_the_keyboard_reaches_every_control(
    scene: tuple[Showcase, Visitors],
) -> None:
    shown, people = scene
    context = people.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{people.address}/console")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(shown.ops_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("The market today")
    page.get_by_role("link", name="Matching runs").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Matching runs")
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.locator("*:focus").inner_text())
        if reached[-1] == "Ask for a run":
            break
    assert reached[0] == "Skip to the content"
    assert {"Today", "Matching runs", "Offers", "Leave"} <= set(reached)
    assert reached[-1] == "Ask for a run"
    page.keyboard.press("Enter")
    expect(page.get_by_text("Waiting for the solver")).to_be_visible()
    context.close()
