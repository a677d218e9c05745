"""Accepted work that turns out to be a fraud: opened by one person, answered by its author, decided
by a second, appealed before a third; what it does to the work, its seat and its pay.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from market.auth import Part
from market.claims.actions import Opening, contest_hours
from market.earnings.models import Earning
from market.events import Event, EventRow, StateChange
from market.frauds.jobs import miss_fraud_appeals
from market.frauds.models import FraudCase
from market.moves import unfolded
from market.projects.actions import move_project
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict, VerdictChange
from market.work.models import TimeEntry
from payouts import chart
from tests.factories import Caller, make_offer, make_project, make_task
from tests.market.house import House, paid_in
from tests.market.reviewed import STUMP, cast, hand_in

WHY = "The answer was copied whole from a chapter that is in the evidence folder."
SAID = "I wrote that chapter myself; the publisher's letter is in the same folder."


class Scene:
    """An accepted stump of one expert, credited, on a project that goes on; and three of ops."""

    def __init__(self, house: House, answers: int = 1) -> None:
        self.house = house
        self.expert = house.expert()
        self.opener, self.decider, self.third = (house.caller(Part.OPS) for _ in range(3))
        at = datetime.now(UTC) - timedelta(days=1)
        with house.begin() as session:
            project = make_project(
                session, at=at, reviews_per_submission=1, answers_per_task=answers
            )
            task = make_task(session, project, at=at, slots=answers)
            offer = make_offer(session, task, self.expert.person_id, at=at)
            handed = hand_in(session, offer=offer, at=at)
            cast(session, handed, STUMP, at=at + timedelta(hours=1))
            self.submission_id, self.task_id = handed.id, task.id
            self.project = chart.project_budget(project.id, project.organisation_id)
        house.react()
        self.url = ""

    def open(self) -> str:
        """A case about the work; its address."""
        body = {"submission_id": f"sub_{self.submission_id.hex}", "reason": WHY, "evidence": ["f"]}
        made = self.opener.post("/v1/fraud-cases", json=body)
        assert made.status_code == 201, made.text
        self.url = f"/v1/fraud-cases/{made.json()['id']}"
        return self.url

    def uphold(self) -> None:
        """The case, heard and upheld."""
        url = self.open()
        assert self.expert.post(f"{url}/answer", json={"text": SAID}).status_code == 200
        done = self.decider.post(f"{url}/decision", json={"uphold": True, "decision": WHY})
        assert (done.status_code, done.json()["state"]) == (200, "upheld"), done.text

    def states(self) -> tuple[str, str, list[str]]:
        """Of the submission, its task, and the task's seats."""
        with self.house.begin() as session:
            seats = select(TaskSlot.state).where(TaskSlot.task_id == self.task_id)
            return (
                session.get_one(Submission, self.submission_id).state,
                session.get_one(Task, self.task_id).state,
                sorted(session.scalars(seats)),
            )

    def owed(self) -> tuple[int, int, int]:
        """What is free, held and owed back, in minor units."""
        who = self.expert.person_id
        accounts = (chart.owed_to(who), chart.held_for(who), chart.receivable_from(who))
        free, held, owing = (self.house.posted(one) for one in accounts)
        return free, held, owing

    def pay(self) -> tuple[int, int]:
        """What the work paid its expert, and the fee beside it."""
        with self.house.begin() as session:
            lines = session.scalars(
                select(Earning).where(Earning.expert_id == self.expert.person_id)
            ).all()
            return sum(one.pay_minor for one in lines), sum(one.fee_minor for one in lines)


def code_of(caller: Caller, path: str, body: Mapping[str, object]) -> tuple[int, str]:
    """How a call was refused."""
    answer = caller.post(path, json=body)
    return answer.status_code, str(answer.json().get("code"))


def test_upheld_after_a_hearing_it_voids_the_work_and_undoes_its_pay(house: House) -> None:
    scene = Scene(house)
    pay, fee = scene.pay()
    assert pay > 0
    assert scene.states() == ("accepted", "accepted", ["counted"])
    assert scene.owed() == (0, pay, 0)
    budget = house.posted(scene.project)
    scene.uphold()
    house.react()
    # The seat is another's to fill; the project has its money again, and the expert none of it.
    assert scene.states() == ("voided", "queued", ["open"])
    assert scene.owed() == (0, 0, 0)
    assert house.posted(scene.project) == budget + pay + fee
    with house.begin() as session:
        verdict = session.get_one(Verdict, scene.submission_id)
        assert (verdict.is_accepted, verdict.is_stump, verdict.share) == (False, False, 0)
        assert verdict.basis == "case"
        kept = session.scalars(select(VerdictChange.version)).all()
        assert list(kept) == [1]
        moves = select(StateChange.action).where(StateChange.subject_id == scene.submission_id)
        assert list(session.scalars(moves.order_by(StateChange.id)))[-1] == "void"
        assert unfolded(session) == []
        told = session.scalars(
            select(EventRow.type).where(EventRow.person_id == scene.expert.person_id)
        )
        assert {"fraud_case.opened", "fraud_case.decided", "verdict.corrected"} <= set(told)
    (case,) = scene.expert.get("/v1/fraud-cases?state=upheld").json()["items"]
    assert case["taken_back"]["amount_minor"] == pay
    assert scene.expert.get(scene.url).json() == case


def test_each_step_of_the_hearing_is_kept(house: House) -> None:
    scene = Scene(house)
    about = {"submission_id": f"sub_{scene.submission_id.hex}", "reason": WHY}
    short = {**about, "reason": "bad"}
    assert code_of(scene.opener, "/v1/fraud-cases", short) == (422, "case_reason_missing")
    url, yes = scene.open(), {"uphold": True, "decision": WHY}
    assert code_of(scene.opener, "/v1/fraud-cases", about) == (409, "case_exists")
    assert code_of(scene.opener, f"{url}/decision", yes) == (403, "second_person_needed")
    assert code_of(scene.decider, f"{url}/decision", yes) == (409, "answer_still_due")
    stranger = house.expert()
    assert code_of(stranger, f"{url}/answer", {"text": SAID}) == (404, "not_found")
    no = {"uphold": False, "decision": WHY}
    assert scene.decider.post(f"{url}/decision", json=no).json()["state"] == "dismissed"
    assert code_of(scene.expert, f"{url}/answer", {"text": SAID}) == (409, "state_conflict")
    assert code_of(scene.expert, f"{url}/appeal", {"text": SAID}) == (409, "state_conflict")
    assert scene.states()[0] == "accepted"
    # Another may be opened; and silence past the time to answer lets a person decide.
    url = scene.open()
    with house.begin() as session:
        session.execute(text("update market.fraud_case set answer_by = opened_at"))
    assert scene.decider.post(f"{url}/decision", json=yes).json()["state"] == "upheld"
    assert code_of(scene.opener, "/v1/fraud-cases", about) == (409, "state_conflict")


def test_an_appeal_that_is_won_gives_work_seat_and_pay_back(house: House) -> None:
    scene = Scene(house)
    pay, _ = scene.pay()
    budget = house.posted(scene.project)
    scene.uphold()
    house.react()
    asked = scene.expert.post(f"{scene.url}/appeal", json={"text": SAID})
    assert (asked.status_code, asked.json()["state"]) == (200, "appealed")
    verdict = {"overturn": True, "decision": SAID}
    address = f"{scene.url}/appeal-decision"
    for involved in (scene.opener, scene.decider):
        assert code_of(involved, address, verdict) == (403, "decider_involved")
    assert scene.third.post(address, json=verdict).json()["state"] == "overturned"
    house.react()
    assert scene.states() == ("accepted", "accepted", ["counted"])
    assert scene.owed() == (pay, 0, 0)
    assert house.posted(scene.project) == budget
    with house.begin() as session:
        assert session.get_one(Verdict, scene.submission_id).is_stump
        assert unfolded(session) == []
    assert len(house.events(Event.FRAUD_CASE_CLOSED)) == 1


def test_an_appeal_that_is_lost_is_final(house: House) -> None:
    scene = Scene(house)
    scene.uphold()
    late = {"text": SAID}
    with house.begin() as session:
        session.execute(text("update market.fraud_case set decided_at = now() - interval '15 d'"))
    assert code_of(scene.expert, f"{scene.url}/appeal", late) == (409, "appeal_too_late")
    with house.begin() as session:
        session.execute(text("update market.fraud_case set decided_at = now()"))
    assert scene.expert.post(f"{scene.url}/appeal", json=late).status_code == 200
    no = {"overturn": False, "decision": WHY}
    assert scene.third.post(f"{scene.url}/appeal-decision", json=no).json()["state"] == "final"
    assert scene.states()[0] == "voided"


def test_an_appeal_that_nobody_decides_in_time_is_won(house: House) -> None:
    scene = Scene(house)
    pay, _ = scene.pay()
    scene.uphold()
    scene.expert.post(f"{scene.url}/appeal", json={"text": SAID})
    miss_fraud_appeals("now")
    assert scene.states()[0] == "voided"
    with house.begin() as session:
        session.execute(text("update market.fraud_case set appeal_due_at = now()"))
    miss_fraud_appeals("later")
    miss_fraud_appeals("twice")
    assert scene.states()[0] == "accepted"
    assert scene.owed() == (pay, 0, 0)


def test_of_two_answers_one_falls_and_the_other_stays(house: House) -> None:
    scene = Scene(house, answers=2)
    at = datetime.now(UTC) - timedelta(hours=6)
    with house.begin() as session:
        task = session.get_one(Task, scene.task_id)
        other = house_expert(house)
        handed = hand_in(session, offer=make_offer(session, task, other, at=at), at=at)
        cast(session, handed, STUMP, at=at + timedelta(hours=1))
    house.react()
    assert scene.states() == ("accepted", "accepted", ["counted", "counted"])
    scene.uphold()
    assert scene.states() == ("voided", "active", ["counted", "open"])


def test_a_project_that_takes_no_more_work_rests_its_seat(house: House) -> None:
    scene = Scene(house)
    with house.begin() as session:
        work = session.get_one(Submission, scene.submission_id)
        move_project(session, work.project_id, "drain", at=datetime.now(UTC))
    scene.uphold()
    assert scene.states() == ("voided", "accepted", ["released"])


def test_pay_at_stripe_is_asked_back_and_an_appeal_waits_for_that(house: House) -> None:
    paid_in(house)
    scene = Scene(house)
    pay, _ = scene.pay()
    house.become_payee(scene.expert)
    house.stripe.ask("POST", "/_clock", paused=True)
    house.pay_out(scene.third)
    scene.uphold()
    scene.expert.post(f"{scene.url}/appeal", json={"text": SAID})
    verdict = {"overturn": True, "decision": SAID}
    address = f"{scene.url}/appeal-decision"
    assert code_of(house.caller(Part.OPS), address, verdict) == (409, "recovery_under_way")
    with house.begin() as session:
        session.execute(text("update market.fraud_case set appeal_due_at = now()"))
    miss_fraud_appeals("too soon")
    assert scene.states()[0] == "voided"
    house.react()
    assert scene.owed() == (0, 0, 0)
    miss_fraud_appeals("now")
    assert scene.states()[0] == "accepted"
    assert scene.owed() == (pay, 0, 0)
    house.stripe.ask("POST", "/_clock", paused=False)


@pytest.mark.slow
def test_pay_in_a_bank_is_owed_until_an_appeal_is_won(house: House) -> None:
    paid_in(house)
    scene = Scene(house)
    pay, _ = scene.pay()
    house.become_payee(scene.expert)
    house.pay_out(scene.third)
    house.hear()
    scene.uphold()
    assert scene.owed() == (0, 0, pay)
    scene.expert.post(f"{scene.url}/appeal", json={"text": SAID})
    verdict = {"overturn": True, "decision": SAID}
    scene.third.post(f"{scene.url}/appeal-decision", json=verdict)
    # What was paid stays paid, and nothing is owed by either side.
    assert scene.owed() == (0, 0, 0)


def test_a_line_is_taken_back_by_one_case_and_not_by_two(house: House) -> None:
    scene = Scene(house)
    (line,) = scene.expert.get("/v1/earnings").json()["items"]
    body = {"earning_id": line["id"], "reason": WHY}
    made = scene.opener.post("/v1/recovery-cases", json=body).json()
    scene.uphold()
    with house.begin() as session:
        session.execute(text("update market.recovery_case set answer_by = opened_at"))
    yes = {"uphold": True, "decision": WHY}
    address = f"/v1/recovery-cases/{made['id']}/decision"
    assert code_of(scene.decider, address, yes) == (409, "case_exists")
    no = {**yes, "uphold": False}
    assert scene.decider.post(address, json=no).json()["state"] == "dismissed"
    assert code_of(scene.opener, "/v1/recovery-cases", body) == (409, "case_exists")


def test_a_dispute_about_its_time_is_decided_first(house: House) -> None:
    scene = Scene(house)
    url = scene.open()
    with house.begin() as session:
        session.execute(text("update market.fraud_case set answer_by = opened_at"))
        work = session.get_one(Submission, scene.submission_id)
        entry = session.scalars(select(TimeEntry).where(TimeEntry.offer_id == work.offer_id)).one()
        first, last = entry.during.lower, entry.during.upper
        assert first is not None
        assert last is not None
        opening = Opening(
            starts_at=first,
            ends_at=last,
            reason_code="duplicate",
            statement="The same words were handed in on another task as well.",
        )
        contest_hours(
            session, work.offer_id, opening, actor_id=scene.opener.person_id, at=datetime.now(UTC)
        )
    yes = {"uphold": True, "decision": WHY}
    assert code_of(scene.decider, f"{url}/decision", yes) == (409, "pay_in_dispute")
    with house.begin() as session:
        assert session.scalars(select(FraudCase.state)).one() == "opened"


def house_expert(house: House) -> UUID:
    """Another expert's id."""
    return house.expert().person_id
