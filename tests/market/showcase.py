"""A small made-up market to look at: a lab with a project half done, four experts, and ops.

Everything is written by the actions that the service itself uses, with the times of the last days,
so that every page has something on it: verdicts, pay, a payout, open tasks for a run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.approvals.actions import approve_lines
from market.attempts.actions import Answer, claim_stump, make_attempt, record_answer, submit_attempt
from market.auth import Part
from market.db import database
from market.earnings.jobs import credit_earning
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.events import Event, EventRow
from market.experiments.models import Experiment, Exposure
from market.experts.actions import create_profile
from market.experts.rules import Claim, Profile
from market.heartbeats.actions import beat
from market.impact.jobs import measure_impact
from market.item_banks.actions import raise_flag
from market.item_banks.models import BankItem
from market.offers.actions import accept_offer, decline_offer
from market.offers.models import Offer
from market.people.actions import sign_up
from market.people.models import Person
from market.projects.models import Project, TargetModel
from market.projects.rules import ModelVersion
from market.quality.jobs import learn_verdict
from market.reactions import REACTIONS
from market.releases.actions import announce_release, calibrate_if_possible
from market.reviews.actions import claim_review, open_reviews
from market.reviews.models import Review
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from market.sittings.models import Sitting
from market.tasks.models import Task
from market.treasury.actions import hold_policy, pay_owners
from market.votes.actions import record_vote
from market.votes.rules import Vote
from market.work.actions import start_session
from tests.factories import make_expert, make_offer, make_project, make_task
from tests.market.banked import knows, make_bank, seat, sit

PEOPLE = (
    ("Ines Moreau", "Synthetic chemist, total synthesis", ("chemistry.organic",), "T4"),
    ("Kofi Adler", "Physical chemistry and kinetics", ("chemistry.physical",), "T3"),
    ("Priya Rossi", "Cell biologist, imaging", ("biology.cell",), "T3"),
    ("Tomas Lindgren", "Optics, twenty years of lens design", ("physics.optics",), "T2"),
)
FIELDS = ("chemistry.organic", "chemistry.physical", "biology.cell", "physics.optics")
QUESTIONS = {
    "chemistry.organic": "Predict the major product, and say why the minor one is minor.",
    "chemistry.physical": "Estimate the rate constant, and name the step that limits it.",
    "biology.cell": "Name the step that fails, and the assay that would show it.",
    "law.contracts": "Find the clause that voids the indemnity, and cite the rule.",
    "physics.optics": "Estimate the aberration, and name the approximation that breaks first.",
}
PROMPTS = (
    "Which diastereomer leads when the enolate is trapped at minus ninety degrees, and why?",
    "A rate doubles with the viscosity of its solvent. Name a mechanism that does this.",
    "Two mutants look alike under the microscope; which stain tells them apart, and when?",
    "Where does the caustic of a thick meniscus lens begin to fold, seen from the stop?",
    "Give the kinetic isotope effect of a step that tunnels from its second level.",
    "Why does this cascade stop after the third ring although a fourth would be strain-free?",
    "Name the buffer in which the assay reports the opposite sign, and explain the reversal.",
    "How does the field curvature change if the flint is replaced by a liquid of equal index?",
    "Which protecting group survives both conditions, and what would go wrong with the other?",
)
FAILS = "It assumes a concerted step; the trapped intermediate shows that there is none."
STUMP = Vote("accept", model_failed=True, attempt_fair=True, seconds=240)
HELD = Vote("accept", model_failed=False, attempt_fair=True, seconds=180)


@dataclass(frozen=True, slots=True)
class Showcase:
    """Keys of the four who look at it, and what they look at."""

    ops_key: str
    lab_key: str
    expert_key: str
    reviewer_key: str
    expert_id: UUID
    project_id: UUID


def set_up(at: datetime) -> Showcase:
    """Write the market into the open database, as if the last days had gone like this."""
    began = (at - timedelta(days=9)).replace(second=0, microsecond=0)
    # What is offered below comes of this run, which saw nothing yet.
    with database.begin() as session:
        run_id = request_run(session, seed=1, at=began)[0].id
    run_matching(str(run_id))
    with database.begin() as session:
        ops = sign_up(session, part=Part.OPS, name="Omar Ito", email="ops@showcase.example", at=at)
        lab = sign_up(
            session,
            part=Part.LAB,
            name="Lena Haddad",
            email="lena@showcase.example",
            organisation_name="Frontier Lab",
            at=at,
        )
        assert lab.organisation is not None
        experts = [
            sign_up(
                session,
                part=Part.EXPERT,
                name=name,
                email=f"expert.{number}@showcase.example",
                at=at,
            )
            for number, (name, *_) in enumerate(PEOPLE)
        ]
        for joined, (_, headline, fields, tier) in zip(experts, PEOPLE, strict=True):
            profile = Profile(
                headline=headline,
                timezone="Europe/Paris",
                country="FR",
                weekly_hours=30,
                max_concurrent=4,
                claims=tuple(Claim(field) for field in fields),
            )
            create_profile(session, joined.person.id, profile, at=began, tier=tier)
        joined_reviewers = [
            sign_up(
                session,
                part=Part.REVIEWER,
                name=f"Reviewer {number}",
                email=f"reviewer.{number}@showcase.example",
                at=at,
            )
            for number in range(3)
        ]
        reviewers = [joined.person.id for joined in joined_reviewers]
        project = make_project(
            session,
            lab.organisation.id,
            domains=FIELDS,
            budget_minor=900_000,
            cap_s=3600,
            at=began,
        )
        project.name = "Frontier questions, round 1"
        project.brief = "Short expert questions on which the target model is confident and wrong."
        session.flush()
        ids = [joined.person.id for joined in experts]
        done = [
            _decided(
                session,
                project,
                ids,
                reviewers,
                number,
                run_id,
                began + timedelta(hours=7 * number),
            )
            for number in range(9)
        ]
        for number in range(9, 19):
            _task(session, project, number, FIELDS[number % len(FIELDS)], at=began)
        # Nobody here knows the law, so that a run leaves a seat open and says why.
        _task(session, project, 19, "law.contracts", at=began)
    for submission_id in done:
        for job in (credit_earning, learn_verdict, measure_impact):
            job(str(submission_id))
    with database.begin() as session:
        lines = session.scalars(select(Earning.id).where(Earning.expert_id == ids[0])).all()
        approve_lines(session, ids[0], lines, at=at)
        pay_owners(
            session,
            [(ids[0], "USD")],
            period_end=week_of(at),
            at=at,
            policy=hold_policy(),
        )
        # What followed from all this was done above; a relay would find nothing.
        session.execute(update(EventRow).where(EventRow.relayed_at.is_(None)).values(relayed_at=at))
    return Showcase(
        ops.secret,
        lab.secret,
        experts[0].secret,
        joined_reviewers[0].secret,
        ids[0],
        project.id,
    )


def _task(session: Session, project: Project, number: int, field: str, *, at: datetime) -> Task:
    return make_task(
        session,
        project,
        external_id=f"{field.partition('.')[0]}-{number:03d}",
        domain=field,
        payload={"instructions": QUESTIONS[field]},
        complexity=2 + number % 4,
        expected_s=900 + 300 * (number % 4),
        at=at,
    )


def _decided(
    session: Session,
    project: Project,
    experts: list[UUID],
    reviewers: list[UUID],
    number: int,
    run_id: UUID,
    at: datetime,
) -> UUID:
    """One task from its offer to its verdict: the model fails on two of three."""
    # The first expert does every other task, so that its pages have something to show.
    who = 0 if number % 2 == 0 else 1 + number // 2 % 3
    expert_id, at = experts[who], at.replace(microsecond=0)
    task = _task(session, project, number, PEOPLE[who][2][0], at=at)
    offer = make_offer(session, task, expert_id, at=at)
    offer.run_id = run_id
    minutes = 14 + 5 * (number % 5)
    running = start_session(session, offer.id, expert_id=expert_id, at=at)
    for seq in range(1, minutes):
        moment = at + timedelta(minutes=seq)
        beat(session, running.id, expert_id=expert_id, seq=seq, is_active=True, at=moment)
    over = at + timedelta(minutes=minutes)
    asked = make_attempt(
        session,
        offer.id,
        expert_id=expert_id,
        prompt=PROMPTS[number % len(PROMPTS)],
        reference="The second step is not concerted, so the other diastereomer leads.",
        at=over,
    )
    said = "The usual selectivity holds, so the first product leads."
    answer = Answer(said, 200, 12, b"{}", b'{"said": "The usual."}', 9, 3, "stop", "target-1")
    record_answer(session, asked.id, 0, answer, at=over)
    claim_stump(session, asked.id, expert_id=expert_id, claims_stump=True, at=over)
    handed = submit_attempt(
        session, offer.id, asked.id, expert_id=expert_id, payload={"why": FAILS}, at=over
    )
    open_reviews(session, handed.id, at=over)
    decided = over + timedelta(hours=1 + number % 3)
    queued = session.scalars(
        select(Review.id).where(Review.submission_id == handed.id).order_by(Review.number)
    ).all()
    for review_id, reviewer_id in zip(queued, reviewers, strict=True):
        claim_review(session, review_id, reviewer_id=reviewer_id, at=decided)
        vote = HELD if number % 3 == 2 else STUMP
        record_vote(session, review_id, reviewer_id=reviewer_id, vote=vote, at=decided)
    return handed.id


FIRST = ("Ana", "Bela", "Chidi", "Dana", "Emre", "Fumi", "Gita", "Hugo")
LAST = ("Keller", "Okafor", "Sato", "Varga", "Weiss")


def more_people(at: datetime) -> None:
    """Eighty more experts: enough for a tenth of them to be somebody."""
    with database.begin() as session:
        for number in range(2 * len(FIRST) * len(LAST)):
            found = make_expert(session, domains=(FIELDS[number % 4],), max_concurrent=4, at=at)
            person = session.get_one(Person, found.id)
            person.name = f"{FIRST[number % len(FIRST)]} {LAST[number // len(FIRST) % len(LAST)]}"
        session.execute(update(EventRow).where(EventRow.relayed_at.is_(None)).values(relayed_at=at))


def more_tasks(project_id: UUID, first: int, at: datetime) -> None:
    """Forty more tasks of a project, numbered from one on."""
    with database.begin() as session:
        project = session.get_one(Project, project_id)
        for number in range(first, first + 40):
            _task(session, project, number, FIELDS[(number + number // 7) % 4], at=at)


def answer_trial(at: datetime) -> None:
    """Everybody whom the trial touched accepts, but for every third one."""
    with database.begin() as session:
        touched = select(Exposure.offer_id).join(
            Experiment, Experiment.id == Exposure.experiment_id
        )
        wanted = select(Offer).where(
            Offer.id.in_(touched.where(Experiment.state == "running")), Offer.state == "pending"
        )
        for number, offer in enumerate(session.scalars(wanted.order_by(Offer.id)).all()):
            if number % 3:
                accept_offer(session, offer.id, expert_id=offer.expert_id, at=at)
            else:
                decline_offer(session, offer.id, expert_id=offer.expert_id, reason="other", at=at)


def show_tests(at: datetime) -> None:
    """A bank of items with one that waits for a decision, sittings of three, and a new model."""
    with database.begin() as session:
        make_bank(session)
        for ability in (1.2, 0.1, -0.8):
            sit(session, seat(session, at=at), knows(ability, seed=3), at=at)
        asked = session.scalars(select(BankItem).order_by(BankItem.id).limit(1)).one()
        taker = session.scalars(select(Sitting.person_id).limit(1)).one()
        raise_flag(
            session,
            asked.id,
            "challenged",
            "Solution 0 is colourless unless it is heated, so that no choice is right.",
            answers=200,
            at=at,
            person_id=taker,
        )
        model = session.scalars(select(TargetModel).order_by(TargetModel.id).limit(1)).one()
        version = ModelVersion(name="target, spring", model="target-2")
        told = announce_release(session, model.id, version, at=at, size=10)
        calibrate_if_possible(session, told.id, at=at)


def react_to(*wanted: Event) -> int:
    """Run the jobs that follow from events of these kinds, as a relay and a worker would; how many.

    Other events are left to wait.
    """
    with database.begin() as session:
        rows = session.scalars(
            select(EventRow).where(EventRow.type.in_(wanted), EventRow.relayed_at.is_(None))
        ).all()
        for row in rows:
            row.relayed_at = row.at
        found = [(Event(row.type), str(row.subject_id)) for row in rows]
    _run(found)
    return len(found)


def _run(found: Iterable[tuple[Event, str]]) -> None:
    for event, subject in found:
        for job in REACTIONS.get(event, ()):
            job(subject)


def offers_of(expert_id: UUID, state: str) -> list[UUID]:
    """The offers of an expert in a state."""
    with database.begin() as session:
        wanted = select(Offer.id).where(Offer.expert_id == expert_id, Offer.state == state)
        return list(session.scalars(wanted))
