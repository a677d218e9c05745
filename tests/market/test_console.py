"""The console without a browser: the door, forms, headers, whose page is whose, and its words."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.auth import Part
from market.console.frame import HEADERS
from market.console.visitors import COOKIE
from market.console.words import duration, left, money, reasons, when
from market.offers.models import Offer
from market.offers.rules import REASONS
from market.people.actions import open_visit
from market.people.models import ApiKey, Visit
from market.people.rules import VISIT_LASTS
from market.projects.models import Project
from market.runs.models import MatchingRun
from market.work.models import TimeEntry, WorkSession
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)

Web = TestClient[Any]
PAGES = {
    Part.OPS: (
        "/console/ops",
        "/console/ops/runs",
        "/console/ops/offers",
        "/console/ops/offers?of=pending",
        "/console/ops/experts",
        "/console/ops/money",
        "/console/ops/queues",
    ),
    Part.LAB: ("/console/lab", "/console/lab/money"),
    Part.EXPERT: (
        "/console/expert",
        "/console/expert/work",
        "/console/expert/earnings",
        "/console/expert/profile",
    ),
    Part.REVIEWER: ("/console/reviewer",),
}
EVERY_PAGE = [(part, path) for part, paths in PAGES.items() for path in paths]
EVIL = "<script>alert('mine')</script><b onclick=x>"
SHOWN = "&lt;script&gt;alert(&#39;mine&#39;)&lt;/script&gt;"


def come_in(web: Web, caller: Caller) -> httpx.Response:
    """Show a key at the door; the client keeps the cookie."""
    web.cookies.clear()
    return web.post("/console/enter", data={"key": caller.key}, follow_redirects=False)


def visit(web: Web, db: Session, part: Part) -> Caller:
    """Someone of a part who came in."""
    caller = make_caller(db, web, part)
    assert come_in(web, caller).status_code == 303
    return caller


def visit_as(web: Web, db: Session, expert_id: UUID) -> Caller:
    """An expert who is there already and came in."""
    caller = key_for(db, web, expert_id, Part.EXPERT)
    come_in(web, caller)
    return caller


def token(web: Web, path: str) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', web.get(path).text)
    assert found is not None
    return found[1]


def send(web: Web, path: str, csrf: str, **fields: str) -> httpx.Response:
    """Send a form."""
    return web.post(path, data={"csrf": csrf, **fields}, follow_redirects=False)


def offered(
    db: Session, *, accepted: bool = False, ago: timedelta = timedelta(0), **task: Any
) -> Offer:
    """An offer with a day to answer it, made now or some time ago."""
    at = datetime.now(UTC) - ago
    project = make_project(db, rate_minor_per_hour=9500, cap_s=3600, at=at)
    expert = make_expert(db, at=AT)
    found = make_offer(
        db, make_task(db, project, at=at, **task), expert.id, at=at, accepted=accepted
    )
    db.flush()
    return found


# The door -----------------------------------------------------------------------------------------


def test_a_key_opens_the_pages_of_its_part(web: Web, db: Session) -> None:
    for part, home in ((Part.OPS, "/console/ops"), (Part.LAB, "/console/lab")):
        answer = come_in(web, make_caller(db, web, part))
        assert (answer.status_code, answer.headers["location"]) == (303, home)
        assert web.get("/console", follow_redirects=False).headers["location"] == home
        assert "Leave" in web.get(home).text


def test_the_cookie_cannot_be_read_by_scripts_or_sent_from_elsewhere(web: Web, db: Session) -> None:
    caller = make_caller(db, web, Part.OPS)
    sent = come_in(web, caller).headers["set-cookie"]
    flags = {part.strip().lower() for part in sent.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/console"} <= flags
    assert f"max-age={12 * 3600}" in flags
    assert caller.key not in sent


def test_a_wrong_key_is_refused_at_the_door_in_words(web: Web, db: Session) -> None:
    good = make_caller(db, web, Part.OPS).key
    for key in ("", "sw_nonsense", good[:-1] + ("a" if good[-1] != "a" else "b"), EVIL):
        answer = web.post("/console/enter", data={"key": key})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert 'role="alert"' in answer.text
        assert "<h1>Come in</h1>" in answer.text
        assert EVIL not in answer.text


def test_a_visitor_who_leaves_is_out_at_once_and_the_cookie_opens_nothing(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    cookie = web.cookies[COOKIE]
    csrf = token(web, "/console/ops")
    assert send(web, "/console/leave", csrf).headers["location"] == "/console"
    assert db.scalar(select(func.count()).select_from(Visit)) == 0
    web.cookies.set(COOKIE, cookie, path="/console")
    assert web.get("/console/ops", follow_redirects=False).status_code == 303


def test_a_visit_ends_with_its_key(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    assert web.get("/console/ops").status_code == 200
    for key in db.scalars(select(ApiKey)):
        key.revoked_at = datetime.now(UTC)
    db.commit()
    assert web.get("/console/ops", follow_redirects=False).headers["location"] == "/console"


def test_a_visit_ends_after_twelve_hours(web: Web, db: Session) -> None:
    key_id = UUID(hex=make_caller(db, web, Part.OPS).key.split("_")[1])
    for ago, status in ((VISIT_LASTS - timedelta(minutes=1), 200), (VISIT_LASTS, 303)):
        cookie = open_visit(db, key_id, at=datetime.now(UTC) - ago)
        db.commit()
        web.cookies.clear()
        web.cookies.set(COOKIE, cookie, path="/console")
        assert web.get("/console/ops", follow_redirects=False).status_code == status


@pytest.mark.parametrize(("part", "path"), EVERY_PAGE)
def test_a_page_leads_strangers_and_other_parts_to_the_door(
    part: Part, path: str, web: Web, db: Session
) -> None:
    for other in (None, *(one for one in Part if one is not part)):
        web.cookies.clear()
        if other is not None:
            visit(web, db, other)
        answer = web.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")


# Every page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "path"), EVERY_PAGE)
def test_a_page_with_nothing_on_it_says_so_under_its_guards(
    part: Part, path: str, web: Web, db: Session
) -> None:
    visit(web, db, part)
    answer = web.get(path)
    assert answer.status_code == 200
    assert answer.text.count("<h1>") == 1
    check_guards(answer)


def check_guards(answer: httpx.Response) -> None:
    """Every answer of the console: its headers, and no script or style that stands in the page."""
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    page = answer.text
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "<style" not in page
    assert re.findall(r"<[^>]*\s(?:style|on[a-z]+)=", page) == []
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert [one for one in addresses if not one.startswith(("/", "#"))] == []


def test_the_door_and_every_refusal_carry_the_same_guards(web: Web, db: Session) -> None:
    check_guards(web.get("/console"))
    check_guards(web.post("/console/enter", data={"key": "sw_no"}))
    visit(web, db, Part.OPS)
    for path in ("nowhere", "ops/none/deep", "ops/runs/mrn_1", "ops/runs/a/b"):
        answer = web.get(f"/console/{path}")
        assert answer.status_code == 404
        assert "<h1>Not found</h1>" in answer.text
        assert "Matching runs" in answer.text
        check_guards(answer)
    check_guards(web.get("/console/ops/offers?cursor=forged"))
    assert web.get("/console/ops/offers?cursor=forged").status_code == 400


def test_files_of_the_console_are_our_own_and_few(web: Web) -> None:
    for name, kind in (("console.css", "css"), ("console.js", "javascript"), ("icon.svg", "svg")):
        answer = web.get(f"/console/static/{name}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text


def test_an_address_that_only_takes_forms_leads_a_reader_to_the_start(web: Web) -> None:
    for path in ("/console/enter", "/console/leave", "/console/expert/offers/ofr_1/accept"):
        answer = web.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")


def test_a_page_with_data_shows_it_under_the_same_guards(
    web: Web, db: Session, react: Callable[[], list[str]]
) -> None:
    offer = offered(db)
    make_task(db, db.get_one(Project, offer.project_id), domain="law")
    run_id = ask_for_run(web, db)
    react()
    for path in (*PAGES[Part.OPS], f"/console/ops/runs/{run_id}"):
        answer = web.get(path)
        assert answer.status_code == 200
        check_guards(answer)
    visit_as(web, db, offer.expert_id)
    for path in PAGES[Part.EXPERT]:
        answer = web.get(path)
        assert answer.status_code == 200
        check_guards(answer)


# Forms --------------------------------------------------------------------------------------------


def test_a_form_without_our_token_is_refused_and_changes_nothing(web: Web, db: Session) -> None:
    offer = offered(db)
    visit(web, db, Part.OPS)
    foreign = token(web, "/console/ops")
    visit_as(web, db, offer.expert_id)
    good = token(web, "/console/expert")
    path = f"/console/expert/offers/ofr_{offer.id.hex}/accept"
    for csrf in ("", foreign, good[:-1] + ("0" if good[-1] != "0" else "1")):
        answer = send(web, path, csrf)
        assert answer.status_code == 403
        assert "out of date" in answer.text
        check_guards(answer)
    assert web.post(path, follow_redirects=False).status_code == 403
    db.expire_all()
    assert db.get_one(Offer, offer.id).state == "pending"
    assert send(web, path, good).status_code == 303


def test_no_form_of_another_site_lets_anybody_in(web: Web, db: Session) -> None:
    caller = make_caller(db, web, Part.OPS)
    answer = web.post(
        "/console/enter", data={"key": caller.key}, headers={"sec-fetch-site": "cross-site"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_key_in_a_header_opens_no_page(web: Web, db: Session) -> None:
    caller = make_caller(db, web, Part.OPS)
    assert caller.get("/console/ops", follow_redirects=False).status_code == 303


# Ops ----------------------------------------------------------------------------------------------


def ask_for_run(web: Web, db: Session, **fields: str) -> str:
    """Ask for a matching run as ops; its id."""
    visit(web, db, Part.OPS)
    answer = send(web, "/console/ops/runs", token(web, "/console/ops/runs"), **fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].rsplit("/", 1)[1].partition("?")[0]


def test_ops_asks_for_a_run_and_reads_why_each_pair_was_chosen_and_each_seat_left_open(
    web: Web, db: Session, react: Callable[[], list[str]]
) -> None:
    project = make_project(db)
    make_task(db, project, external_id="chemistry-1")
    make_task(db, project, external_id="law-1", domain="law")
    expert = make_expert(db)
    run_id = ask_for_run(web, db, project=f"prj_{project.id.hex}", seed="7")
    waiting = web.get(f"/console/ops/runs/{run_id}?said=requested").text
    assert "Waiting for the solver" in waiting
    assert "data-refresh-s" in waiting
    react()
    done = web.get(f"/console/ops/runs/{run_id}").text
    assert "data-refresh-s" not in done
    assert "with seed 7" in done
    assert "chemistry-1" in done
    assert "Good chance of a stump" in done
    assert "Profile near the task" in done
    assert "law-1" in done
    assert "1 seat stays open of 1: no expert in good standing" in done
    offer = db.scalars(select(Offer).where(Offer.expert_id == expert.id)).one()
    assert offer.state == "pending"
    assert "No expert in good standing" in web.get("/console/ops").text


def test_a_seed_that_is_no_number_makes_no_run(web: Web, db: Session) -> None:
    make_project(db)
    visit(web, db, Part.OPS)
    csrf = token(web, "/console/ops/runs")
    for seed in ("-1", "1e3", "seven", "9" * 19):
        answer = send(web, "/console/ops/runs", csrf, seed=seed)
        assert answer.status_code == 422
        assert "whole number" in answer.text
    assert db.scalar(select(func.count()).select_from(MatchingRun)) == 0


# Experts ------------------------------------------------------------------------------------------


def test_an_offer_shows_its_binding_terms_in_plain_words(web: Web, db: Session) -> None:
    offer = offered(db)
    visit_as(web, db, offer.expert_id)
    page = web.get("/console/expert").text.replace("\u00a0", " ")
    for said in (
        "95.00 USD an hour",
        "30 min, which pays 47.50 USD",
        f"1 h, so at most {plain(money(offer.terms['most_pay_minor']))}",
        "within 3 days of accepting",
        "within 7 days by 3 reviewers; silence is paid as accepted",
        "none for you; the project pays it on top",
        "Ask it something it gets wrong.",
        "23 h 59 min left",
    ):
        assert said in page, said
    assert offer.id.hex in page
    assert str(offer.project_id) not in page


def test_an_expert_accepts_an_offer_starts_the_clock_pauses_goes_on_and_stops(
    web: Web, db: Session
) -> None:
    offer = offered(db)
    visit_as(web, db, offer.expert_id)
    csrf, base = token(web, "/console/expert"), f"/console/expert/offers/ofr_{offer.id.hex}"
    answer = send(web, f"{base}/accept", csrf)
    assert answer.headers["location"] == "/console/expert?said=accepted"
    assert "The offer is yours" in web.get(answer.headers["location"]).text
    answer = send(web, f"{base}/start", csrf)
    assert answer.headers["location"] == f"{base}?said=started"
    running = db.scalars(select(WorkSession)).one()
    clock = f"/console/expert/sessions/ses_{running.id.hex}"
    page = web.get("/console/expert/work").text
    assert f'action="{clock}/pause"' in page
    assert "data-clock=" in page
    assert "Go to the clock" in web.get("/console/expert").text
    for move, state in (("beat", "running"), ("pause", "paused"), ("resume", "running")):
        assert send(web, f"{clock}/{move}", csrf, is_active="true").status_code == 303
        db.expire_all()
        assert db.get_one(WorkSession, running.id).state == state
    # Time passes: the last proof was half a minute ago.
    found = db.get_one(WorkSession, running.id)
    assert found.stretch_at is not None
    back = timedelta(seconds=30)
    # The second that may have been recorded by the pause moves out of the way, further back.
    for entry in db.scalars(select(TimeEntry)):
        lower, upper = entry.during.lower, entry.during.upper
        assert lower is not None
        assert upper is not None
        entry.during = Range(lower - 2 * back, upper - 2 * back)
    found.started_at, found.stretch_at = found.started_at - back, found.stretch_at - back
    found.last_beat_at, found.last_active_at = found.last_beat_at - back, found.last_active_at
    db.commit()
    answer = send(web, f"{clock}/stop", csrf)
    assert answer.headers["location"] == "/console/expert/work?said=ended"
    newest = select(TimeEntry).where(TimeEntry.session_id == running.id)
    entry = db.scalars(newest.order_by(TimeEntry.during.desc()).limit(1)).one()
    page = web.get(answer.headers["location"]).text
    assert "The clock has stopped" in page
    assert duration(entry.seconds) in page
    assert "No clock is running" in page


def test_an_expert_declines_for_a_known_reason_and_never_without_one(web: Web, db: Session) -> None:
    offer = offered(db)
    visit_as(web, db, offer.expert_id)
    page = web.get("/console/expert").text
    assert re.findall(r'<option value="([^"]+)"', page) == list(REASONS)
    csrf, path = token(web, "/console/expert"), f"/console/expert/offers/ofr_{offer.id.hex}/decline"
    for reason in ("", "not_now"):
        answer = send(web, path, csrf, reason=reason)
        assert answer.status_code == 422
        assert "Say why" in answer.text
    assert send(web, path, csrf, reason="no_time").status_code == 303
    db.expire_all()
    assert db.get_one(Offer, offer.id).state == "declined"
    assert "No offer waits for you" in web.get("/console/expert").text


def test_an_expert_cannot_answer_for_another_and_is_told_when_it_is_too_late(
    web: Web, db: Session
) -> None:
    offer = offered(db, ago=timedelta(days=2))
    visit_as(web, db, make_expert(db).id)
    csrf = token(web, "/console/expert")
    path = f"/console/expert/offers/ofr_{offer.id.hex}"
    for move in ("accept", "decline", "start"):
        answer = send(web, f"{path}/{move}", csrf, reason="no_time")
        assert answer.status_code == 404
        assert "no such offer" in answer.text
    visit_as(web, db, offer.expert_id)
    csrf = token(web, "/console/expert")
    answer = send(web, f"{path}/accept", csrf)
    assert answer.status_code in (409, 410)
    assert "This offer ended at" in answer.text


def test_a_move_that_a_clock_does_not_know_is_no_page(web: Web, db: Session) -> None:
    offer = offered(db, accepted=True)
    visit_as(web, db, offer.expert_id)
    csrf = token(web, "/console/expert")
    answer = send(web, f"/console/expert/sessions/ses_{offer.id.hex}/explode", csrf)
    assert answer.status_code == 404


# Labs ---------------------------------------------------------------------------------------------


def test_a_lab_sees_its_project_and_another_lab_sees_no_such_page(web: Web, db: Session) -> None:
    owner = visit(web, db, Part.LAB)
    project = make_project(db, owner.organisation_id, domains=("law.contracts",))
    make_task(db, project, external_id="law-1", domain="law.contracts")
    db.commit()
    path = f"/console/lab/projects/prj_{project.id.hex}"
    page = web.get(path).text
    assert "law-1" in page
    assert "Law: contracts" in page
    assert "10,000.00\u00a0USD" in page
    assert path in web.get("/console/lab").text
    assert path in web.get("/console/lab/money").text
    visit(web, db, Part.LAB)
    answer = web.get(path)
    assert answer.status_code == 404
    assert "law-1" not in answer.text
    check_guards(answer)
    for home in PAGES[Part.LAB]:
        assert path not in web.get(home).text


# Other people's words -----------------------------------------------------------------------------


def test_no_page_shows_markup_that_a_lab_or_an_expert_wrote(
    web: Web, db: Session, react: Callable[[], list[str]]
) -> None:
    lab = make_caller(db, web, Part.LAB, EVIL)
    project = make_project(db, lab.organisation_id, domains=("chemistry",))
    project.name = project.brief = EVIL
    expert = make_expert(db, headline=EVIL)
    for number in range(2):
        make_task(
            db, project, external_id=f"{EVIL}{number}", payload={"instructions": EVIL}, slots=1
        )
    db.commit()
    run_id = ask_for_run(web, db)
    react()
    looked = {Part.OPS: [web.get(f"/console/ops/runs/{run_id}")]}
    looked[Part.OPS] += [web.get(path) for path in PAGES[Part.OPS]]
    visit_as(web, db, expert.id)
    looked[Part.EXPERT] = [web.get(path) for path in PAGES[Part.EXPERT]]
    come_in(web, lab)
    paths = (*PAGES[Part.LAB], f"/console/lab/projects/prj_{project.id.hex}")
    looked[Part.LAB] = [web.get(path) for path in paths]
    for part, answers in looked.items():
        for answer in answers:
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text
            assert "<b onclick" not in answer.text
        assert any(SHOWN in answer.text for answer in answers), part


# Words --------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Without the spaces that hold words together."""
    return text.replace("\u00a0", " ")


def test_money_is_said_with_the_decimals_of_its_currency() -> None:
    assert plain(money(1_234_567)) == "12,345.67 USD"
    assert plain(money(-5, "EUR")) == "−0.05 EUR"
    assert plain(money(1_200, "JPY")) == "1,200 JPY"
    assert plain(money(1_234_567, "KWD")) == "1,234.567 KWD"
    assert money(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (1786, "29 min 46 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (3660, "1 h 1 min"),
        (24 * 3600, "24 h"),
        (72 * 3600, "3 days"),
        (76 * 3600 + 60, "3 days 4 h"),
        (None, "–"),
    ],
)
def test_a_stretch_of_time_is_said_in_its_two_largest_units(seconds: int | None, said: str) -> None:
    assert plain(duration(seconds)) == said


def test_a_moment_is_said_in_its_place_and_in_utc_where_the_place_is_unknown() -> None:
    assert plain(when(AT)) == "2 Mar 2026, 09:00"
    assert plain(when(AT, "Asia/Kolkata")) == "2 Mar 2026, 14:30 (Kolkata time)"
    assert plain(when(AT, "Nowhere/At_All")) == "2 Mar 2026, 09:00"
    assert plain(left(AT + timedelta(minutes=90), AT)) == "1 h 30 min left"
    assert left(AT, AT) == "over"


def test_reasons_fill_a_bar_in_their_order_and_what_adds_nothing_is_left_out() -> None:
    found = reasons(
        {
            "interest": {"weighed": 0.25},
            "stump": {"weighed": 0.75},
            "learning": {"weighed": 0.0001},
            "cost": {"weighed": -0.1},
        }
    )
    assert [one.text for one in found] == [
        "Good chance of a stump",
        "Interest in the task",
        "Pay and fee",
    ]
    assert [(round(one.starts), round(one.width)) for one in found] == [
        (0, 750),
        (750, 250),
        (1000, 0),
    ]
