"""Disputes about time: only what is disputed waits, and silence costs an expert nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.approvals.actions import approve_lines
from market.auth import Part
from market.claims.actions import Opening, ask_beyond_cap, ask_for_time, contest_hours
from market.disputes.actions import appeal, decide, respond, run_out, withdraw
from market.disputes.jobs import end_due_disputes
from market.disputes.models import Dispute
from market.disputes.rules import DISPUTE, NothingToDispute, NotYoursToDecide, working_days_after
from market.earnings.actions import accrue_earning, lock_pay
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.invoices.queries import Weeks, project_charges
from market.offers.models import Offer
from market.projects.models import Project
from market.tasks.jobs import settle_projects
from market.time_entries.queries import unproven_time
from market.work.models import TimeEntry
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from payouts.pay import pay_minor
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.earned import end_offer, make_active_offer, work_on

HOUR = 3600
WORDS = "Nothing happened on the task in these minutes."
LAB_PERSON, OPS_ONE, OPS_TWO = uuid4(), uuid4(), uuid4()


def minutes(first: int, last: int, reason: str = "idle") -> Opening:
    """Some minutes after the start of the day's work, and a reason."""
    return Opening(
        AT + timedelta(minutes=first), AT + timedelta(minutes=last), reason, WORDS, ("a log",)
    )


def make_credited(
    db: Session, seconds: int = 2 * HOUR, *, capped_s: int = 0, **terms: Any
) -> Offer:
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    project = make_project(db, **terms)
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    work_on(db, offer, AT, seconds, capped_s=capped_s)
    offer.accepted_at = AT - timedelta(hours=5)
    offer.ended_at = AT + timedelta(seconds=seconds)
    end_offer(db, offer)
    accrue_earning(db, offer.id, at=AT)
    return offer


def lines(db: Session, offer: Offer) -> list[tuple[int, int, str]]:
    db.expire_all()
    rows = db.scalars(select(Earning).where(Earning.offer_id == offer.id).order_by(Earning.id))
    return [(row.seconds, row.pay_minor, row.state) for row in rows]


def free_and_held(db: Session, offer: Offer) -> tuple[int, int]:
    return (
        balance(db, chart.owed_to(offer.expert_id)).posted_minor,
        balance(db, chart.held_for(offer.expert_id)).posted_minor,
    )


def spent(db: Session, offer: Offer) -> int:
    escrow = chart.project_budget(offer.project_id, offer.organisation_id)
    return 1_000_000 - balance(db, escrow).posted_minor


def states_of_time(db: Session, offer: Offer) -> list[str]:
    db.expire_all()
    wanted = select(TimeEntry).where(TimeEntry.offer_id == offer.id).order_by(TimeEntry.during)
    return [entry.state for entry in db.scalars(wanted)]


def assert_books_hold(db: Session) -> None:
    assert violations(db) == []
    assert unbacked_lines(db) == []
    assert unproven_time(db) == []


def contest(db: Session, offer: Offer, first: int = 30, last: int = 60) -> Dispute:
    return contest_hours(db, offer.id, minutes(first, last), actor_id=LAB_PERSON, at=AT)


def test_the_database_knows_the_moves_of_a_dispute(db: Session) -> None:
    assert pairs_in_database(db, DISPUTE) == DISPUTE.pairs()


def test_only_the_disputed_minutes_wait_and_the_rest_is_paid_on_time(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    assert (made.claimed_s, made.state) == (1800, "open")
    assert lines(db, offer) == [(5400, 3300, "accrued"), (1800, 1100, "disputed")]
    assert states_of_time(db, offer) == ["disputed"]
    # The lab's silence approves what it did not dispute.
    approve_lines(db, offer.expert_id, at=AT + timedelta(days=30))
    assert lines(db, offer)[0][2] == "approved"
    assert free_and_held(db, offer) == (3300, 1100)
    assert_books_hold(db)


def test_the_parts_of_a_line_pay_what_the_line_paid(db: Session) -> None:
    # 4,567 s at 22.00 an hour is 27.91 rounded; its parts must not lose or win a cent.
    offer = make_credited(db, 4567)
    made = contest_hours(
        db,
        offer.id,
        Opening(AT + timedelta(seconds=11), AT + timedelta(seconds=1240), "idle", WORDS),
        actor_id=LAB_PERSON,
        at=AT,
    )
    assert made.claimed_s == 1229
    found = lines(db, offer)
    assert sum(seconds for seconds, _, _ in found) == 4567
    assert sum(pay for _, pay, _ in found) == pay_minor(4567, 2200)
    assert_books_hold(db)


def test_no_answer_lets_a_person_decide_and_no_decision_is_the_experts(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    assert made.due_at == AT + timedelta(days=3)
    assert run_out(db, made.id, at=made.due_at - timedelta(seconds=1)) is False
    assert run_out(db, made.id, at=made.due_at) is True
    assert (made.state, made.awarded_s) == ("answered", None)
    # Four working days from Thursday are over on Wednesday.
    assert made.due_at == AT + timedelta(days=9)
    assert run_out(db, made.id, at=made.due_at) is True
    assert (made.state, made.awarded_s, made.decided_by) == ("decided", 1800, None)
    assert lines(db, offer) == [(5400, 3300, "accrued"), (1800, 1100, "approved")]
    assert free_and_held(db, offer) == (1100, 3300)
    assert_books_hold(db)


def test_a_decision_withholds_and_its_money_is_the_projects_again(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    respond(
        db,
        made.id,
        statement="I was reading the paper on paper.",
        concedes=False,
        actor_id=offer.expert_id,
        at=AT,
    )
    decide(db, made.id, awarded_s=600, note="Twenty minutes show no work.", by=OPS_ONE, at=AT)
    found = lines(db, offer)
    assert sorted(found) == sorted(
        [(5400, 3300, "accrued"), (600, 367, "approved"), (1200, 733, "withheld")]
    )
    approve_lines(db, offer.expert_id, at=AT + timedelta(days=30))
    assert free_and_held(db, offer) == (3667, 0)
    assert spent(db, offer) == 3667 + 880 - 147
    (charge,) = project_charges(db, Weeks(offer.organisation_id))
    assert charge.total_minor == spent(db, offer)
    assert states_of_time(db, offer) == ["payable"]
    assert_books_hold(db)


def test_an_appeal_is_heard_by_another_person_and_pays_what_was_withheld(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    run_out(db, made.id, at=made.due_at)
    decide(db, made.id, awarded_s=0, note="There is no sign of any work.", by=OPS_ONE, at=AT)
    assert free_and_held(db, offer) == (0, 3300)
    appeal(db, made.id, expert_id=offer.expert_id, statement="Here are my notes of it.", at=AT)
    with pytest.raises(NotYoursToDecide):
        decide(db, made.id, awarded_s=1800, note="I looked at it again.", by=OPS_ONE, at=AT)
    decide(db, made.id, awarded_s=900, note="Half of it is in the notes.", by=OPS_TWO, at=AT)
    assert (made.state, made.final_s, made.awarded_s) == ("final", 900, 0)
    assert sorted(lines(db, offer)) == sorted(
        [(5400, 3300, "accrued"), (900, 550, "withheld"), (900, 550, "approved")]
    )
    assert free_and_held(db, offer) == (550, 3300)
    assert_books_hold(db)


def test_an_appeal_that_is_not_decided_in_time_is_the_experts(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    run_out(db, made.id, at=made.due_at)
    decide(db, made.id, awarded_s=0, note="There is no sign of any work.", by=OPS_ONE, at=AT)
    appeal(db, made.id, expert_id=offer.expert_id, statement="Here are my notes of it.", at=AT)
    assert run_out(db, made.id, at=made.due_at) is True
    assert (made.state, made.final_s, made.final_by) == ("final", 1800, None)
    assert free_and_held(db, offer) == (1100, 3300)
    assert_books_hold(db)


def test_a_decision_stands_when_nobody_appeals(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    run_out(db, made.id, at=made.due_at)
    decide(db, made.id, awarded_s=0, note="There is no sign of any work.", by=OPS_ONE, at=AT)
    assert made.due_at == AT + timedelta(days=14)
    assert run_out(db, made.id, at=made.due_at) is True
    assert (made.state, made.final_s) == ("final", 0)
    assert run_out(db, made.id, at=made.due_at) is False


def test_a_project_does_not_close_while_a_dispute_may_cost_it(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer)
    project = db.get_one(Project, offer.project_id)
    project.state = "draining"
    db.commit()

    def is_closed() -> bool:
        settle_projects("now")
        db.refresh(project)
        return bool(project.state == "closed")

    assert not is_closed()
    run_out(db, made.id, at=made.due_at)
    assert not is_closed()
    decide(db, made.id, awarded_s=0, note="There is no sign of any work.", by=OPS_ONE, at=AT)
    # The expert may appeal yet, and what that gives comes from this budget.
    assert not is_closed()
    appeal(db, made.id, expert_id=offer.expert_id, statement="Here are my notes of it.", at=AT)
    assert not is_closed()
    decide(db, made.id, awarded_s=900, note="Half of it is in the notes.", by=OPS_TWO, at=AT)
    assert is_closed()
    assert_books_hold(db)


def test_a_side_can_give_in_or_take_it_back(db: Session) -> None:
    offer = make_credited(db)
    made = contest(db, offer, 0, 10)
    respond(
        db,
        made.id,
        statement="I forgot to stop the clock.",
        concedes=True,
        actor_id=offer.expert_id,
        at=AT,
    )
    assert (made.state, made.awarded_s, made.is_conceded) == ("decided", 0, True)
    again = contest(db, offer, 60, 90)
    withdraw(db, again.id, actor_id=LAB_PERSON, at=AT)
    assert again.state == "withdrawn"
    assert [state for _, _, state in lines(db, offer)] == ["accrued", "withheld", "approved"]
    assert_books_hold(db)


def test_approved_hours_and_hours_that_are_disputed_cannot_be_disputed(db: Session) -> None:
    offer = make_credited(db)
    contest(db, offer, 0, 120)
    with pytest.raises(NothingToDispute):
        contest(db, offer, 0, 10)
    other = make_credited(db)
    approve_lines(db, other.expert_id, at=AT + timedelta(days=30))
    with pytest.raises(NothingToDispute):
        contest(db, other)


def test_the_database_refuses_pay_withheld_without_a_person_or_a_reason(db: Session) -> None:
    made = contest(db, make_credited(db))
    for values in (
        {"awarded_s": 0},
        {"awarded_s": 0, "decided_by": OPS_ONE},
        {"awarded_s": 0, "decided_by": LAB_PERSON, "decision_note": WORDS},
    ):
        with pytest.raises(IntegrityError), db.begin_nested():
            db.execute(update(Dispute).where(Dispute.id == made.id).values(**values))
    with pytest.raises(IntegrityError), db.begin_nested():
        db.execute(update(Earning).where(Earning.state == "disputed").values(dispute_id=None))


# What an expert asks for --------------------------------------------------------------------------


def test_missing_time_that_is_granted_becomes_a_line_of_its_own(
    db: Session, react: Callable[[], list[str]]
) -> None:
    offer = make_credited(db)
    offer.state = "completed"
    end = AT + timedelta(hours=3)
    opening = Opening(
        AT + timedelta(hours=2), end, "heartbeats_lost", "My connection was gone for an hour."
    )
    made = ask_for_time(db, offer.id, opening, expert_id=offer.expert_id, at=end)
    assert made.claimed_s == HOUR
    respond(
        db,
        made.id,
        statement="We saw the work of that hour.",
        concedes=True,
        actor_id=LAB_PERSON,
        at=end,
    )
    assert (made.state, made.awarded_s) == ("decided", HOUR)
    granted = db.scalars(select(TimeEntry).where(TimeEntry.source == "granted")).one()
    assert (granted.seconds, granted.decision_id, granted.session_id) == (HOUR, made.id, None)
    accrue_earning(db, offer.id, at=end)
    assert lines(db, offer) == [(2 * HOUR, 4400, "accrued"), (HOUR, 2200, "accrued")]
    react()
    assert len(lines(db, offer)) == 2
    assert_books_hold(db)


def test_time_beyond_a_cap_is_paid_when_a_person_says_so(db: Session) -> None:
    offer = make_credited(db, 2 * HOUR, capped_s=HOUR, cap_s=HOUR)
    assert lines(db, offer) == [(HOUR, 2200, "accrued")]
    opening = Opening(AT, AT + timedelta(hours=2), "cap_too_low", "The task needs two hours.")
    made = ask_beyond_cap(db, offer.id, opening, expert_id=offer.expert_id, at=AT)
    assert made.claimed_s == HOUR
    run_out(db, made.id, at=made.due_at)
    decide(db, made.id, awarded_s=1800, note="Others took half an hour more.", by=OPS_ONE, at=AT)
    accrue_earning(db, offer.id, at=AT)
    assert lines(db, offer) == [(HOUR, 2200, "accrued"), (1800, 1100, "accrued")]
    appeal(db, made.id, expert_id=offer.expert_id, statement="It took me an hour more.", at=AT)
    decide(db, made.id, awarded_s=HOUR, note="The log shows the whole hour.", by=OPS_TWO, at=AT)
    accrue_earning(db, offer.id, at=AT)
    assert sum(pay for _, pay, _ in lines(db, offer)) == 4400
    assert_books_hold(db)


@pytest.mark.parametrize(
    ("first_h", "last_h", "words"),
    [(3, 2, "ends before"), (3, 30, "future"), (-9, 0, "before the offer"), (1, 3, "recorded")],
)
def test_time_that_cannot_have_been_worked_is_not_asked_for(
    db: Session, first_h: int, last_h: int, words: str
) -> None:
    from market.errors import MarketError

    offer = make_credited(db)
    opening = Opening(AT + timedelta(hours=first_h), AT + timedelta(hours=last_h), "other", WORDS)
    with pytest.raises(MarketError, match=words):
        ask_for_time(db, offer.id, opening, expert_id=offer.expert_id, at=AT + timedelta(hours=4))


def test_working_days_leave_out_weekends() -> None:
    friday = datetime(2026, 3, 6, 15, tzinfo=UTC)
    assert working_days_after(friday, 1) == datetime(2026, 3, 9, 15, tzinfo=UTC)
    assert working_days_after(friday + timedelta(days=1), 3) == datetime(
        2026, 3, 11, 15, tzinfo=UTC
    )


# Over HTTP ----------------------------------------------------------------------------------------


@pytest.fixture
def sides(db: Session, web: TestClient[Any]) -> tuple[Caller, Caller, Offer]:
    """A lab, an expert with two credited hours on its project, and the offer of them."""
    from market.experts.actions import create_profile
    from market.experts.rules import Profile

    lab, me = make_caller(db, web, Part.LAB), make_caller(db, web, Part.EXPERT)
    create_profile(db, me.person_id, Profile(), at=AT - timedelta(days=9), tier="T1")
    project = make_project(db, lab.organisation_id)
    offer = make_active_offer(db, project, make_task(db, project), me.person_id)
    work_on(db, offer, AT, 2 * HOUR)
    end_offer(db, offer)
    accrue_earning(db, offer.id, at=AT)
    db.commit()
    return lab, me, offer


def test_a_dispute_from_its_opening_to_its_appeal_over_http(
    db: Session, web: TestClient[Any], sides: tuple[Caller, Caller, Offer]
) -> None:
    lab, me, offer = sides
    one, two = make_caller(db, web, Part.OPS), make_caller(db, web, Part.OPS)
    body = {
        "kind": "hours",
        "offer_id": f"ofr_{offer.id.hex}",
        "starts_at": AT.isoformat(),
        "ends_at": (AT + timedelta(minutes=30)).isoformat(),
        "reason_code": "idle",
        "statement": "short",
    }

    def code(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]

    assert code(lab.post("/v1/disputes", json=body)) == (422, "dispute_reason_missing")
    body["statement"] = WORDS
    assert code(me.post("/v1/disputes", json=body)) == (403, "scope_missing")
    assert code(make_caller(db, web, Part.LAB).post("/v1/disputes", json=body)) == (
        404,
        "not_found",
    )
    backwards = {**body, "ends_at": body["starts_at"]}
    assert code(lab.post("/v1/disputes", json=backwards)) == (422, "range_invalid")
    opened = lab.post("/v1/disputes", json=body)
    assert opened.status_code == 201, opened.text
    assert code(lab.post("/v1/disputes", json=body)) == (409, "nothing_to_dispute")
    path = f"/v1/disputes/{opened.json()['id']}"
    assert me.get(path).json()["statement"] == WORDS
    assert code(make_caller(db, web, Part.EXPERT).get(path)) == (404, "not_found")
    line = me.get("/v1/earnings").json()["items"][0]
    mine = me.get(f"/v1/earnings/{line['id']}").json()
    assert (mine["state"], mine["dispute_id"]) == ("disputed", opened.json()["id"])
    assert mine["what_next"].startswith("A person decides about it")
    said = {"statement": "I was reading the task twice over."}
    assert code(lab.post(f"{path}/response", json=said)) == (403, "scope_missing")
    answered = me.post(f"{path}/response", json=said)
    assert answered.json()["state"] == "answered"
    ruling = {"awarded_s": 1801, "note": "The log shows nothing at all."}
    tag = {"If-Match": answered.headers["etag"]}
    assert code(one.post(f"{path}/decision", json=ruling)) == (428, "version_missing")
    assert code(one.post(f"{path}/decision", json=ruling, headers=tag)) == (422, "award_invalid")
    ruling["awarded_s"] = 0
    decided = one.post(f"{path}/decision", json=ruling, headers=tag)
    assert (decided.json()["state"], decided.json()["can_appeal"]) == ("decided", True)
    assert decided.json()["decided_by"] == f"per_{one.person_id.hex}"
    why = {"statement": "My notes of that half hour are attached."}
    assert code(lab.post(f"{path}/appeal", json=why)) == (403, "scope_missing")
    appealed = me.post(f"{path}/appeal", json=why)
    assert appealed.json()["state"] == "appealed"
    assert code(me.post(f"{path}/appeal", json=why)) == (409, "state_conflict")
    tag, ruling["awarded_s"] = {"If-Match": appealed.headers["etag"]}, 1800
    assert code(one.post(f"{path}/decision", json=ruling, headers=tag)) == (
        403,
        "not_yours_to_decide",
    )
    final = two.post(f"{path}/decision", json=ruling, headers=tag).json()
    assert (final["state"], final["final_s"], final["due_at"]) == ("final", 1800, None)
    assert_books_hold(db)


def test_an_appeal_has_its_time_and_needs_something_denied(
    db: Session, web: TestClient[Any], sides: tuple[Caller, Caller, Offer]
) -> None:
    lab, me, offer = sides
    made = contest_hours(db, offer.id, minutes(0, 30), actor_id=lab.person_id, at=AT)
    run_out(db, made.id, at=made.due_at)
    decide(db, made.id, awarded_s=1800, note="The heartbeats prove it.", by=OPS_ONE, at=AT)
    db.commit()
    why = {"statement": "I would like to be heard again."}
    answer = me.post(f"/v1/disputes/dsp_{made.id.hex}/appeal", json=why)
    assert (answer.status_code, answer.json()["code"]) == (409, "appeal_too_late")


def test_the_clock_moves_disputes_on(db: Session, sides: tuple[Caller, Caller, Offer]) -> None:
    lab, _, offer = sides
    made = contest_hours(db, offer.id, minutes(0, 30), actor_id=lab.person_id, at=AT)
    db.commit()
    # The clock of this machine is far past the answer's time.
    end_due_disputes("slot")
    db.expire_all()
    assert db.scalars(select(Dispute.state)).all() == ["answered"]
    assert made.id


def test_locking_pay_keeps_an_approval_and_a_dispute_apart(committed: str) -> None:
    import threading

    from market.db import database
    from market.disputes.rules import NothingToDispute as Nothing

    del committed
    with database.begin() as session:
        offers = [make_credited(session) for _ in range(6)]
    outcome: list[str] = []
    start = threading.Barrier(12)

    def approve(expert_id: UUID) -> None:
        start.wait()
        with database.begin() as session:
            approve_lines(session, expert_id, at=AT + timedelta(days=30))

    def dispute(offer_id: UUID) -> None:
        start.wait()
        try:
            with database.begin() as session:
                contest_hours(session, offer_id, minutes(0, 30), actor_id=LAB_PERSON, at=AT)
            outcome.append("disputed")
        except Nothing:
            outcome.append("approved")

    threads = [
        threading.Thread(target=target, args=(which,))
        for offer in offers
        for target, which in ((approve, offer.expert_id), (dispute, offer.id))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcome) == 6
    with database.begin() as session:
        for offer in offers:
            lock_pay(session, offer.expert_id)
            found = lines(session, offer)
            assert sum(pay for _, pay, _ in found) == 4400
            assert {state for _, _, state in found} <= {"approved", "disputed"}
        assert_books_hold(session)
