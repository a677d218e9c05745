"""Admissions: room by forecast work, turns, promises that are kept or paid, and who may cut in."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from market.admissions import jobs
from market.admissions.actions import (
    admit_if_room,
    admit_out_of_turn,
    apply_for_admission,
    follow_admission,
    leave_queue,
    publish_terms,
)
from market.admissions.models import Admission
from market.admissions.queries import domain_forecast, place_of, waiting_rows
from market.admissions.rules import (
    AdmissionUnfit,
    AlreadyApplied,
    Forecast,
    Terms,
    check_terms,
    low_sum,
)
from market.auth import Part
from market.db import PLATFORM, database, take_scope
from market.earnings.models import Earning
from market.events import Event, EventRow
from market.experts.models import Expert
from market.http import wire_id
from market.moves import unfolded
from market.projects.models import Project
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.qualifications.models import Qualification, SittingRate
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from tests.chaos.people import Tally
from tests.chaos.places import FEE, FIELD, admitted
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.test_console import come_in, send, token

Web = TestClient[Any]
WEEK = timedelta(days=7)
WHY = "The lab of this field begins next week, and its first tasks are promised to us."


def work(db: Session, hours: float, *, at: datetime = AT, domain: str = "chemistry") -> Project:
    """A live project whose open seat holds so many hours."""
    project = make_project(db, answers_per_task=1, at=at, domains=(domain,))
    make_task(db, project, domain=domain, expected_s=round(hours * 3600), at=at)
    return project


def applied(db: Session, hours: int = 10, *, at: datetime = AT) -> Admission:
    """Somebody new who asks to be taken on in chemistry, for so many hours a week."""
    person = make_expert(db, weekly_hours=hours, at=at)
    return apply_for_admission(db, person.id, "chemistry", at=at)


def taken_on(db: Session, *, at: datetime = AT) -> int:
    """How many of those who wait are admitted by going through the queue now."""
    admitted = jobs.admit_in_turn(at=at)
    db.expire_all()
    return admitted


def passed(db: Session, row: Admission, *, at: datetime, score: int = 90) -> None:
    """Let somebody take the test that it was admitted to."""
    assert row.qualification_id is not None
    begin_qualification(db, row.qualification_id, person_id=row.person_id, at=at)
    grade_qualification(db, row.qualification_id, score=score, at=at)


def test_who_fits_the_forecast_work_is_admitted_and_the_others_wait_in_turn(db: Session) -> None:
    work(db, 100)
    # What waits is 25 hours of each of four weeks, of which nine tenths are promised for.
    rows = [applied(db) for _ in range(4)]
    assert [one.state for one in rows] == ["admitted", "admitted", "waiting", "waiting"]
    told = place_of(db, rows[3], at=AT)
    assert (told.position, told.work_s, told.capacity_s) == (2, 25 * 3600, 20 * 3600)
    assert "25 hours of work a week are forecast" in told.sentence
    assert told.turn is not None
    # Nobody overtakes, though it would fit; the next gets the room that more work makes.
    small = applied(db, 2)
    assert small.state == "waiting"
    work(db, 44)
    assert taken_on(db, at=AT) == 1
    assert [one.state for one in (rows[2], rows[3], small)] == ["admitted", "waiting", "waiting"]
    test = db.get_one(Qualification, rows[0].qualification_id)
    assert (test.state, test.domain, test.pay_minor_per_hour) == ("invited", "chemistry", 3000)
    assert unfolded(db) == []


def test_where_there_is_no_work_nobody_is_admitted_and_a_narrower_field_is_the_same_room(
    db: Session,
) -> None:
    assert applied(db).state == "waiting"
    work(db, 60, domain="chemistry.organic")
    assert taken_on(db, at=AT) == 1
    person = make_expert(db, weekly_hours=10)
    narrow = apply_for_admission(db, person.id, "chemistry.organic", at=AT)
    assert narrow.state == "waiting"
    elsewhere = apply_for_admission(db, person.id, "history", at=AT)
    assert elsewhere.state == "waiting"
    with pytest.raises(AlreadyApplied):
        apply_for_admission(db, person.id, "history", at=AT)
    for domain in ("Chemistry!", "physics"):
        db.get_one(Expert, person.id).weekly_hours = 0
        with pytest.raises(AdmissionUnfit):
            apply_for_admission(db, person.id, domain, at=AT)


def test_who_is_offered_no_work_in_time_is_paid_what_was_promised_once(db: Session) -> None:
    project = work(db, 200)
    idle, busy, failed = applied(db), applied(db), applied(db)
    assert idle.guarantee_minor == 6000
    for row in (idle, busy):
        passed(db, row, at=AT)
    passed(db, failed, at=AT, score=10)
    assert [follow_admission(db, one.id, at=AT) for one in (idle, busy, failed)] == [
        "onboard",
        "onboard",
        "lapse",
    ]
    assert idle.due_at == AT + 2 * WEEK
    make_offer(db, make_task(db, project), busy.person_id, accepted=False, at=AT + WEEK)
    assert follow_admission(db, idle.id, at=AT + WEEK) is None
    later = AT + 2 * WEEK
    assert [follow_admission(db, one.id, at=later) for one in (busy, idle)] == [
        "serve",
        "compensate",
    ]
    assert follow_admission(db, idle.id, at=later) is None
    line = db.scalars(select(Earning).where(Earning.kind == "guarantee")).one()
    assert (line.expert_id, line.pay_minor, line.state) == (idle.person_id, 6000, "approved")
    assert balance(db, chart.owed_to(idle.person_id)).available_minor == 6000
    assert violations(db) == []
    told = db.scalars(select(EventRow).where(EventRow.type == Event.ADMISSION_COMPENSATED)).one()
    assert told.person_id == idle.person_id
    assert unfolded(db) == []


def test_work_that_is_offered_after_its_day_does_not_undo_the_promise(db: Session) -> None:
    project = work(db, 200)
    row = applied(db)
    passed(db, row, at=AT)
    assert follow_admission(db, row.id, at=AT) == "onboard"
    late = AT + 2 * WEEK + timedelta(minutes=1)
    make_offer(db, make_task(db, project), row.person_id, accepted=False, at=late)
    assert follow_admission(db, row.id, at=late + timedelta(hours=1)) == "compensate"
    assert db.scalars(select(Earning.pay_minor).where(Earning.kind == "guarantee")).all() == [6000]


def test_who_passed_while_it_waited_is_promised_work_from_its_admission_on(db: Session) -> None:
    row, ops = applied(db), make_expert(db).id
    test = invite_to_qualify(db, row.person_id, domain="chemistry", at=AT)
    begin_qualification(db, test.id, person_id=row.person_id, at=AT)
    grade_qualification(db, test.id, score=90, at=AT)
    later = AT + 8 * WEEK
    admit_out_of_turn(db, row.id, reason=WHY, actor_id=ops, at=later)
    assert follow_admission(db, row.id, at=later) == "onboard"
    assert row.due_at == later + 2 * WEEK
    assert follow_admission(db, row.id, at=later) is None


def test_who_may_not_work_is_not_taken_on_and_holds_up_nobody(db: Session) -> None:
    gone = applied(db, 40)
    db.get_one(Expert, gone.person_id).weekly_hours = 0
    row = applied(db)
    assert place_of(db, row, at=AT).position == 1
    work(db, 200)
    assert taken_on(db, at=AT) == 1
    assert (gone.state, row.state) == ("waiting", "admitted")


def test_a_place_counts_all_who_wait_for_the_same_work(db: Session) -> None:
    applied(db)
    person = make_expert(db)
    for domain, position in (("chemistry.organic", 2), ("history", 1)):
        row = apply_for_admission(db, person.id, domain, at=AT)
        assert place_of(db, row, at=AT).position == position


def test_the_least_promise_is_the_smallest_coin(db: Session) -> None:
    work(db, 100)
    db.add(SittingRate(rate_minor_per_hour=100, currency="USD", starts_at=AT, note=WHY))
    publish_terms(db, Terms(guarantee_s=1), note=WHY, at=AT)
    assert applied(db).guarantee_minor == 1


def until_somebody_waits(session: Session, done: threading.Event) -> None:
    """Hold on until somebody waits for what this transaction holds, and has not got past it."""
    ends = time.monotonic() + 120
    waits = text(
        "select count(*) from pg_locks where pg_backend_pid() = any(pg_blocking_pids(pid))"
    )
    while not session.scalar(waits) and time.monotonic() < ends:
        assert not done.wait(0.02)


def test_whoever_waits_to_be_written_down_is_behind_those_who_were(committed: str) -> None:
    del committed
    with database.begin() as session:
        work(session, 50)
        first, second = (make_expert(session, weekly_hours=10).id for _ in range(2))
    done = threading.Event()

    def ask() -> None:
        try:
            with database.begin() as session:
                apply_for_admission(session, second, "chemistry", at=AT)
        finally:
            done.set()

    thread = threading.Thread(target=ask)
    with database.begin() as session:
        session.execute(text("select pg_advisory_xact_lock(hashtextextended('admissions', 0))"))
        thread.start()
        until_somebody_waits(session, done)
        # For ten hours a week there is room, and for twenty there is not.
        assert apply_for_admission(session, first, "chemistry", at=AT).state == "admitted"
    thread.join(120)
    with database.begin() as session:
        rows = session.scalars(select(Admission).order_by(Admission.id)).all()
        assert [(one.person_id, one.state) for one in rows] == [
            (first, "admitted"),
            (second, "waiting"),
        ]


def test_whoever_leaves_while_the_queue_is_gone_through_is_not_taken_on(committed: str) -> None:
    del committed
    with database.begin() as session:
        row = applied(session)
        work(session, 100)
    found: list[int] = []
    done = threading.Event()

    def take_on() -> None:
        try:
            found.append(jobs.admit_in_turn(at=AT))
        finally:
            done.set()

    thread = threading.Thread(target=take_on)
    with database.begin() as session:
        leave_queue(session, row.id, person_id=row.person_id, at=AT)
        thread.start()
        until_somebody_waits(session, done)
    thread.join(120)
    assert found == [0]
    with database.begin() as session:
        assert session.get_one(Admission, row.id).state == "left"
        assert waiting_rows(session) == []


def test_who_may_not_be_offered_work_any_more_is_promised_nothing(db: Session) -> None:
    work(db, 200)
    row = applied(db)
    db.get_one(Expert, row.person_id).weekly_hours = 0
    assert follow_admission(db, row.id, at=AT + 4 * WEEK) == "lapse"
    assert db.scalars(select(Earning)).all() == []


def test_chaos_finds_who_was_overtaken_and_promises_that_were_not_set_aside(db: Session) -> None:
    work(db, 400, domain=FIELD)
    publish_terms(db, Terms(guarantee_s=0, fee_minor=FEE, budget_minor=FEE), note=WHY, at=AT)
    rows = []
    for _ in range(3):
        person = make_expert(db, weekly_hours=10)
        rows.append(apply_for_admission(db, person.id, FIELD, at=AT))
    tally = Tally(admissions={wire_id("adm", one.id) for one in rows})
    assert [(one.looked_at, one.broken) for one in admitted(db, tally)] == [(3, 0), (1, 0), (1, 0)]
    # The third gets a promise for which nothing is left, before the second.
    admit_out_of_turn(db, rows[2].id, reason=WHY, actor_id=rows[0].person_id, at=AT)
    tally.admissions.add(wire_id("adm", rows[0].person_id))
    assert [one.broken for one in admitted(db, tally)] == [1, 1, 1]


def test_no_more_is_promised_at_once_than_was_set_aside(db: Session) -> None:
    work(db, 400)
    publish_terms(db, Terms(guarantee_s=0, fee_minor=5000, budget_minor=9000), note=WHY, at=AT)
    first, second = applied(db), applied(db)
    assert (first.state, first.guarantee_minor, second.state) == ("admitted", 5000, "waiting")
    assert "promise" in place_of(db, second, at=AT).sentence
    passed(db, first, at=AT)
    for action in ("onboard", "compensate"):
        assert follow_admission(db, first.id, at=AT + 3 * WEEK) == action
    assert taken_on(db, at=AT + 3 * WEEK) == 1


def test_ops_admit_out_of_turn_for_a_reason_that_is_kept(db: Session) -> None:
    row, ops = applied(db), make_expert(db).id
    with pytest.raises(AdmissionUnfit):
        admit_out_of_turn(db, row.id, reason="Because.", actor_id=ops, at=AT)
    admit_out_of_turn(db, row.id, reason=WHY, actor_id=ops, at=AT)
    assert (row.state, row.decided_by, row.reason) == ("admitted", ops, WHY)
    assert domain_forecast(db, "chemistry", at=AT).capacity_s == 10 * 3600


def test_a_forecast_takes_the_low_end_of_what_comes_in() -> None:
    steady, wild = [3600] * 28, [0, 7200] * 14
    assert low_sum(steady, 28) == 28 * 3600
    assert 0 < low_sum(wild, 28) < 28 * 3600
    assert low_sum([0] * 28, 28) == 0
    found = Forecast(backlog_s=0, daily_s=tuple(steady), experts=1, capacity_s=3600)
    assert found.room_s(Terms()) == pytest.approx(0.9 * 7 * 3600 - 3600)


@pytest.mark.parametrize(
    "terms",
    [
        Terms(load=1.5),
        Terms(horizon_d=3),
        Terms(fee_minor=5),
        Terms(guarantee_s=0),
        Terms(budget_minor=0),
        Terms(pass_score=0),
        Terms(within_d=0),
    ],
)
def test_terms_that_nobody_can_mean_are_refused(terms: Terms) -> None:
    with pytest.raises(AdmissionUnfit):
        check_terms(terms)


def test_an_expert_applies_over_http_reads_its_place_and_leaves(db: Session, web: Web) -> None:
    expert = key_for(db, web, make_expert(db).id, Part.EXPERT)
    ops, other = make_caller(db, web, Part.OPS), key_for(db, web, make_expert(db).id, Part.EXPERT)
    made = expert.post("/v1/admissions", json={"domain": "chemistry"})
    assert (made.status_code, made.json()["state"]) == (201, "waiting")
    path = f"/v1/admissions/{made.json()['id']}"
    place = expert.get(path).json()["place"]
    assert (place["position"], place["expected_at"]) == (1, None)
    again = expert.post("/v1/admissions", json={"domain": "chemistry"})
    assert (again.status_code, again.json()["code"]) == (409, "already_applied")
    wrong = expert.post("/v1/admissions", json={"domain": "!"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "admission_unfit")
    assert other.get(path).json()["code"] == "not_found"
    reviewer = make_caller(db, web, Part.REVIEWER)
    assert reviewer.get("/v1/admissions").json()["items"] == []
    assert reviewer.get(path).json()["code"] == "not_found"
    assert other.post(f"{path}/leave").status_code == 404
    assert expert.post(f"{path}/admit", json={"reason": WHY}).status_code == 403
    assert [one["id"] for one in ops.get("/v1/admissions").json()["items"]] == [made.json()["id"]]
    forecast = ops.get("/v1/admission-forecast", params={"domain": "chemistry"}).json()
    assert (forecast["work_hours_a_week"], forecast["room_hours"]) == (0, 0)
    assert expert.post(f"{path}/leave").json()["state"] == "left"
    second = expert.post("/v1/admissions", json={"domain": "chemistry"}).json()["id"]
    admitted = ops.post(f"/v1/admissions/{second}/admit", json={"reason": WHY}).json()
    assert (admitted["state"], admitted["guarantee_minor"]) == ("admitted", 6000)
    terms = ops.get("/v1/admission-terms").json()
    assert terms["guarantee_s"] == 7200
    given = {**terms, "guarantee_s": 0, "fee_minor": 9900, "note": WHY}
    assert ops.post("/v1/admission-terms", json=given).status_code == 201
    assert expert.get("/v1/admission-terms").json()["fee_minor"] == 9900


def test_an_expert_applies_on_its_page_and_ops_admit_on_theirs(db: Session, web: Web) -> None:
    expert = key_for(db, web, make_expert(db).id, Part.EXPERT)
    ops = make_caller(db, web, Part.OPS)
    come_in(web, expert)
    mine, queue = "/console/expert/tests", "/console/ops/experts/admissions"
    assert (
        send(web, "/console/expert/admissions", token(web, mine), domain="chemistry").status_code
        == 303
    )
    assert "Place 1." in web.get(mine).text
    row = db.scalars(select(Admission)).one()
    come_in(web, ops)
    path = f"{queue}/adm_{row.id.hex}/admit"
    refused = send(web, path, token(web, queue), reason="Too short.")
    assert refused.status_code == 422
    assert send(web, path, token(web, queue), reason=WHY).status_code == 303
    assert WHY in web.get(f"{queue}?of=admitted").text
    come_in(web, expert)
    assert "Promised: work within 14 days" in web.get(mine).text


def test_the_sweep_takes_the_next_step_of_each(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of more than one read gives, too.
    monkeypatch.setattr(jobs, "SWEEP", 1)
    at = datetime.now(UTC) - timedelta(days=30)
    work(db, 100, at=at)
    row, other = applied(db, at=at), applied(db, at=at)
    for one in (row, other):
        passed(db, one, at=at)
    waits: UUID = applied(db, 40, at=at).id
    db.commit()
    # One step at a time: the test is passed, and then the promise is due.
    for _ in range(2):
        jobs.follow_admissions("now")
    db.expire_all()
    assert (row.state, other.state) == ("compensated", "compensated")
    assert db.get_one(Admission, waits).state == "waiting"


def refuse(db: Session, row: Admission) -> None:
    """Let PostgreSQL refuse every change of one admission."""
    for statement in (
        "reset role",
        "create function market.refuse() returns trigger language plpgsql as"
        " $$begin raise exception 'this row is broken'; end$$",
        "create trigger refuse before update on market.admission for each row"
        f" when (old.id = '{row.id}') execute function market.refuse()",
    ):
        db.execute(text(statement))
    take_scope(db, PLATFORM)


def test_an_admission_that_fails_holds_up_nobody_behind_it_and_is_told(db: Session) -> None:
    at = datetime.now(UTC) - timedelta(days=30)
    broken, behind = applied(db, at=at), applied(db, at=at)
    work(db, 400, at=at)
    refuse(db, broken)
    db.commit()
    with pytest.raises(ProgrammingError, match="this row is broken"):
        jobs.admit_waiting("now")
    db.expire_all()
    assert (broken.state, behind.state) == ("waiting", "admitted")


def test_of_steps_under_way_one_that_fails_holds_up_neither_the_others_nor_the_queue(
    db: Session,
) -> None:
    at = datetime.now(UTC) - timedelta(days=30)
    work(db, 100, at=at)
    broken, other = applied(db, at=at), applied(db, at=at)
    for one in (broken, other):
        passed(db, one, at=at)
    waits = applied(db, at=at)
    work(db, 100, at=at)
    refuse(db, broken)
    db.commit()
    with pytest.raises(ProgrammingError, match="this row is broken"):
        jobs.follow_admissions("now")
    jobs.admit_waiting("now")
    db.expire_all()
    assert [one.state for one in (broken, other, waits)] == ["admitted", "onboarded", "admitted"]


def test_promises_in_another_currency_leave_the_budget_alone(db: Session) -> None:
    work(db, 400)
    publish_terms(db, Terms(guarantee_s=0, fee_minor=5000, budget_minor=9000), note=WHY, at=AT)
    assert applied(db).state == "admitted"
    db.add(SittingRate(rate_minor_per_hour=100, currency="EUR", starts_at=AT, note=WHY))
    second, third = applied(db), applied(db)
    assert (second.state, second.currency, third.state) == ("admitted", "EUR", "waiting")


def test_whoever_was_admitted_since_a_forecast_is_counted_beside_it(db: Session) -> None:
    first, second, elsewhere = applied(db), applied(db), make_expert(db).id
    work(db, 60)
    found = domain_forecast(db, "chemistry", at=AT)
    admit_out_of_turn(db, first.id, reason=WHY, actor_id=elsewhere, at=AT)
    assert admit_if_room(db, second.id, found, at=AT) == "full"
    assert second.state == "waiting"
