"""Sends a market through the real service: from the lab's signup to the experts' banks.

Whatever a lab or ops would do goes over HTTP. What many experts and raters do goes through the
actions that the API calls, with the times that the market has. Everything that follows from these
is left to the relay, the queues and the workers, and waited for.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import func, select

from market.approvals.actions import approve_lines
from market.attempts.actions import claim_stump, submit_attempt
from market.attempts.models import Attempt
from market.auth import Part
from market.db import database, now
from market.earnings.models import Earning
from market.errors import MarketError
from market.events import EventRow
from market.offers.actions import decline_offer
from market.offers.models import Offer
from market.people.actions import grant_part, sign_up
from market.people.models import Person
from market.replay.caller import Caller, CallRefused
from market.replay.hands import Journey, set_up_payees, work_once
from market.replay.keys import ops_key
from market.replay.report import Report, Stage, report_on
from market.replay.rows import (
    all_taken,
    batches_of,
    email_of,
    expert_row,
    json_lines,
    pair_row,
    task_row,
)
from market.replay.script import (
    AttemptLine,
    Behaviour,
    Recorded,
    Script,
    TaskLine,
    whole_weeks_until,
)
from market.reviews.actions import claim_review
from market.reviews.models import Review
from market.submissions.models import Submission
from market.supervisor import Addresses
from market.tasks.models import Task
from market.votes.actions import record_vote
from market.votes.rules import Vote
from market.work.models import TimeEntry
from payouts.models import Payout

Item = TypeVar("Item")
Say = Callable[[str], None]

WAVES = 40
"""Matching runs that a market gets; each offers what the ones before left open."""

PATIENCE_S = 1200.0
SHOW_EVERY_S = 2.0


class ReplayStuck(MarketError):
    """The service stopped getting on with what it was given."""

    def __init__(self, what: str, done: int, wanted: int) -> None:
        super().__init__(f"{what}: {done} of {wanted} after a long wait; see the logs")
        self.what = what


@dataclass(slots=True)
class Drive:
    """A market on its way through a started service."""

    script: Script
    addresses: Addresses
    say: Say
    stages: dict[str, Stage] = field(default_factory=dict)
    project_id: UUID = field(default_factory=lambda: UUID(int=0))
    lab_key: str = ""
    ops_key: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[list[int]]:
        """Time a stretch; the block appends how many rows it handled.

        What is done once for each batch of tasks is one stage, with all its rows and seconds.
        """
        self.say(f"{name} ...")
        rows: list[int] = []
        began = time.perf_counter()
        yield rows
        before = self.stages.get(name, Stage(name, 0, 0.0))
        seconds = before.seconds + time.perf_counter() - began
        self.stages[name] = Stage(name, before.rows + sum(rows), seconds)

    def run(self) -> Report:
        """The whole way, and the report."""
        self.ops_key = ops_key("ops@stumpwork.example")
        if isinstance(self.script.behaviour, Recorded):
            lines = self.script.behaviour.attempts.values()
            first = min(line.sent_at for line in lines)
            self.script.behaviour.shift = whole_weeks_until(first - timedelta(days=1), now())
        self.open_project()
        self.bring_experts()
        behaviour = self.script.behaviour
        batches = batches_of(self.script)
        for number, batch in enumerate(batches, 1):
            self.bring_tasks(batch)
            if number == 1:
                self.launch()
            if behaviour is None:
                self.match()
            else:
                self.work_in_waves(behaviour)
        self.settle_queues()
        if behaviour is not None:
            self.pay_out()
            self.settle_queues()
        with database.begin() as session:
            return report_on(session, self.script, self.project_id, list(self.stages.values()))

    def leave_offers(self) -> int:
        """Bring the market as far as its offers, and leave them to be answered; how many."""
        self.bring_all()
        return self.match()

    def bring_all(self) -> None:
        """Bring the market as far as its launch: everybody is there, and nothing is matched."""
        self.ops_key = ops_key("ops@stumpwork.example")
        self.open_project()
        self.bring_experts()
        self.bring_tasks(self.script.tasks)
        self.launch()

    def open_project(self) -> None:
        """A lab, a new one unless its key is given, drafts a project and pays for it."""
        terms = self.script.terms
        with self.stage("lab, project and funding") as rows:
            self.lab_key = self.lab_key or self._sign_up()
            with Caller(self.addresses.web, self.lab_key) as lab:
                drafted = lab.post(
                    "/v1/projects",
                    {
                        "name": terms.name,
                        "brief": terms.brief,
                        "domains": list(terms.domains),
                        "cap_s": terms.cap_s,
                        "answers_per_task": terms.answers_per_task,
                        "reviews_per_submission": terms.reviews,
                        "offer_ttl_s": terms.offer_ttl_s,
                        "work_ttl_s": terms.work_ttl_s,
                        "review_ttl_s": terms.review_ttl_s,
                        "target_model_id": self._target_model(lab),
                        "require_interest": terms.only_known_pairs,
                    },
                )
                self.project_id = UUID(hex=drafted["id"].partition("_")[2])
                budget = {"amount_minor": terms.budget_minor, "currency": "USD"}
                funding = lab.post(
                    "/v1/fundings",
                    {"amount": budget, "payment_method": "pm_card_visa"},
                    keyed=True,
                )
                self._await_funding(lab, funding["id"])
                lab.post(f"/v1/projects/{drafted['id']}/budget", budget, keyed=True)
            rows.append(1)

    def _sign_up(self) -> str:
        with Caller(self.addresses.web, None) as any_one:
            joined = any_one.post(
                "/v1/signups",
                {
                    "part": "lab",
                    "name": "Lena Haddad",
                    "email": f"lena.{secrets.token_hex(4)}@lab.example",
                    "organisation_name": "Frontier Lab",
                },
            )
        return str(joined["api_key"])

    def _target_model(self, lab: Caller) -> str:
        known = lab.get("/v1/target-models")["items"]
        if known:
            return str(known[0]["id"])
        named = lab.post(
            "/v1/target-models",
            {
                "name": "Model under test",
                "base_url": self.addresses.target_model,
                "model": "recorded" if self._is_recorded else "fluent-1",
                "timeout_s": 20,
                "max_tokens": 256,
            },
        )
        return str(named["id"])

    @property
    def _is_recorded(self) -> bool:
        return isinstance(self.script.behaviour, Recorded)

    def _await_funding(self, lab: Caller, funding_id: str) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            state = lab.get(f"/v1/fundings/{funding_id}")["state"]
            if state == "succeeded":
                return
            if state == "failed":
                raise CallRefused("the funding", 200, "the payment failed")
            time.sleep(0.1)
        raise ReplayStuck("the lab's funding", 0, 1)

    def bring_experts(self) -> None:
        """Experts come in by bulk upload."""
        with Caller(self.addresses.web, self.ops_key) as ops, self.stage("experts") as rows:
            answer = ops.upload(
                "/v1/experts:import", json_lines(map(expert_row, self.script.experts))
            )
            rows.append(all_taken("experts", answer))

    def bring_tasks(self, tasks: Sequence[TaskLine]) -> None:
        """Tasks come in by bulk upload, and with them what is known of their pairs."""
        prefix = f"/v1/projects/prj_{self.project_id.hex}"
        mine = {task.task for task in tasks}
        pairs = [pair for pair in self.script.pairs if pair.task in mine]
        with Caller(self.addresses.web, self.lab_key) as lab:
            with self.stage("tasks") as rows:
                answer = lab.upload(f"{prefix}/tasks:import", json_lines(map(task_row, tasks)))
                rows.append(all_taken("tasks", answer))
            with self.stage("known pairs") as rows:
                answer = lab.upload(f"{prefix}/interests:import", json_lines(map(pair_row, pairs)))
                rows.append(all_taken("pairs", answer))

    def launch(self) -> None:
        """The project goes live."""
        prefix = f"/v1/projects/prj_{self.project_id.hex}"
        with Caller(self.addresses.web, self.lab_key) as lab:
            for move in ("submit", "pass", "launch"):
                version = lab.get(prefix)["version"]
                lab.post(
                    f"{prefix}/transitions",
                    {"action": move, "reason_code": "replayed" if move == "launch" else None},
                    headers={"If-Match": f'"{version}"'},
                )

    def match(self) -> int:
        """One matching run; how many offers it made."""
        with (
            Caller(self.addresses.web, self.ops_key) as ops,
            self.stage("matching runs") as rows,
        ):
            policy = next(
                (
                    found["id"]
                    for found in ops.every("/v1/policies")
                    if found["name"] == self.script.terms.policy
                ),
                None,
            )
            body = {"project_id": f"prj_{self.project_id.hex}", "policy_id": policy, "seed": 1}
            started = ops.post("/v1/matching-runs", body)
            done = ops.await_operation(started["operation_id"], lambda line: self.say(f"  {line}"))
            made = int(done["result"]["offers"])
            rows.append(made)
            return made

    def work_in_waves(self, behaviour: Behaviour) -> None:
        """Match, work, review, and match again what is left, until nothing is taken up.

        A run may offer nothing and leave much to do: between runs, the keeper of the plan makes
        offers too.
        """
        raters, expert_ids = self._bring_raters(), self._expert_ids()
        for _ in range(WAVES):
            self.match()
            journeys = self._work(behaviour, expert_ids)
            if not journeys:
                return
            self._await(
                "answers of the model",
                len(journeys),
                select(func.count())
                .select_from(Attempt)
                .where(Attempt.id.in_([j.attempt_id for j in journeys]), Attempt.state != "sent"),
            )
            self._submit(journeys)
            self._review(behaviour, journeys, raters)
            if isinstance(behaviour, Recorded):
                # Everything that the record knows of this batch has happened.
                return

    def _bring_raters(self) -> dict[str, UUID]:
        raters = {}
        with database.begin() as session:
            for name in self.script.raters:
                email = email_of(name)
                found = session.scalar(
                    select(Person.id).where(func.lower(Person.email) == email.lower())
                )
                if found is None:
                    joined = sign_up(session, part=Part.REVIEWER, name=name, email=email, at=now())
                    found = joined.person.id
                grant_part(session, found, Part.REVIEWER, organisation_id=None, at=now())
                raters[name] = found
        return raters

    def _expert_ids(self) -> dict[UUID, str]:
        names = {email_of(line.expert): line.expert for line in self.script.experts}
        with database.begin() as session:
            rows = session.execute(select(Person.id, Person.email)).all()
        return {one: names[email] for one, email in rows if email in names}

    def _work(self, behaviour: Behaviour, experts: Mapping[UUID, str]) -> list[Journey]:
        """Every offer is accepted or declined; accepted ones are worked on, with a clock."""
        with database.begin() as session:
            offers = session.execute(
                select(Offer.id, Offer.expert_id, Task.external_id)
                .join(Task, Task.id == Offer.task_id)
                .where(Offer.project_id == self.project_id, Offer.state == "pending")
                .order_by(Offer.id)
            ).all()
            last_ends = session.execute(
                select(TimeEntry.expert_id, func.max(func.upper(TimeEntry.during)))
                .where(TimeEntry.expert_id.in_({row.expert_id for row in offers}))
                .group_by(TimeEntry.expert_id)
            ).all()
        worked_until: dict[UUID, datetime] = {row[0]: row[1] for row in last_ends}
        opened = now()
        plan: list[tuple[AttemptLine, UUID, UUID]] = []
        for offer_id, expert_id, task in offers:
            until = worked_until.get(expert_id)
            line = behaviour.attempt_of(experts[expert_id], task, opened, until)
            if line is None:
                with database.begin() as session:
                    decline_offer(
                        session, offer_id, expert_id=expert_id, reason="no_time", at=now()
                    )
            else:
                plan.append((line, offer_id, expert_id))
        plan.sort(key=lambda one: one[0].sent_at)
        journeys = []
        with self.stage("work") as rows:
            for line, offer_id, expert_id in self._shown(plan):
                journeys.append(work_once(line, offer_id, expert_id))
                rows.append(1)
        return journeys

    def _submit(self, journeys: Sequence[Journey]) -> None:
        with self.stage("submissions") as rows:
            for journey in self._shown(journeys):
                at = journey.line.sent_at + timedelta(seconds=1)
                with database.begin() as session:
                    claim_stump(
                        session,
                        journey.attempt_id,
                        expert_id=journey.expert_id,
                        claims_stump=True,
                        at=at,
                    )
                    submit_attempt(
                        session,
                        journey.offer_id,
                        journey.attempt_id,
                        expert_id=journey.expert_id,
                        payload={"prompt": journey.line.prompt, "why": "see the answer kept"},
                        at=at,
                    )
                rows.append(1)

    def _review(
        self,
        behaviour: Behaviour,
        journeys: Sequence[Journey],
        raters: Mapping[str, UUID],
    ) -> None:
        """Every rater of the market claims a review and votes; the last vote is the verdict."""
        of_offer = {journey.offer_id: journey for journey in journeys}
        mine = (
            select(Submission.id, Submission.offer_id)
            .where(Submission.offer_id.in_(list(of_offer)))
            .order_by(Submission.submitted_at)
        )
        with database.begin() as session:
            submissions = session.execute(mine).all()
        ids = [one for one, _ in submissions]
        votes = {
            submission_id: behaviour.votes_on(of_offer[offer_id].line)
            for submission_id, offer_id in submissions
        }
        wanted = sum(len(found) for found in votes.values())
        self._await(
            "reviews opened",
            wanted,
            select(func.count()).select_from(Review).where(Review.submission_id.in_(ids)),
        )
        with self.stage("votes") as rows:
            for submission_id, offer_id in self._shown(submissions):
                at = of_offer[offer_id].line.sent_at + timedelta(minutes=10)
                with database.begin() as session:
                    reviews = session.scalars(
                        select(Review.id)
                        .where(Review.submission_id == submission_id, Review.state == "queued")
                        .order_by(Review.number)
                    ).all()
                for review_id, vote in zip(reviews, votes[submission_id], strict=True):
                    reviewer = raters[vote.rater]
                    # A review is taken up when it is there, however long ago the work was done.
                    taken = max(at, now())
                    with database.begin() as session:
                        claim_review(session, review_id, reviewer_id=reviewer, at=taken)
                        record_vote(
                            session,
                            review_id,
                            reviewer_id=reviewer,
                            vote=Vote(
                                verdict="accept",
                                model_failed=vote.model_failed,
                                attempt_fair=vote.attempt_fair,
                                seconds=vote.seconds,
                            ),
                            at=max(at + timedelta(seconds=vote.seconds), taken),
                        )
                    rows.append(1)
        self._await(
            "verdicts turned into pay",
            len(ids),
            select(func.count(Earning.submission_id.distinct())).where(
                Earning.submission_id.in_(ids)
            ),
        )

    def pay_out(self) -> None:
        """Everybody says where to be paid, one payout run takes all, and the money arrives."""
        with database.begin() as session:
            owed = session.scalars(select(Earning.expert_id).distinct()).all()
        if not owed:
            return
        # A run pays whatever is owed, for a week that is over; ours ended last midnight on Sunday.
        today = now().date()
        monday = today - timedelta(days=today.weekday())
        with self.stage("payouts") as rows, Caller(self.addresses.web, self.ops_key) as ops:
            set_up_payees(owed, self.script.experts, self._expert_ids())
            self.settle_queues()
            with database.begin() as session:
                waiting = session.execute(
                    select(Earning.expert_id, Earning.id).where(Earning.state == "accrued")
                ).all()
            # The labs would say nothing until Wednesday, and the story ends today.
            for expert_id in owed:
                lines = [line_id for owner, line_id in waiting if owner == expert_id]
                with database.begin() as session:
                    approve_lines(session, expert_id, lines, at=now())
            started = ops.post("/v1/payout-runs", {"period_end": monday.isoformat()}, keyed=True)
            ops.await_operation(started["operation_id"], lambda line: self.say(f"  {line}"))
            self._await(
                "payouts in the bank",
                len(owed),
                select(func.count()).select_from(Payout).where(Payout.state == "paid"),
            )
            rows.append(len(owed))

    def settle_queues(self) -> None:
        """Wait until the outbox is empty and no job is left in the embedded queue."""
        from market.broker import queue_depth_rows

        until = time.monotonic() + PATIENCE_S
        quiet = 0
        while time.monotonic() < until:
            with database.begin() as session:
                waiting = session.scalar(
                    select(func.count()).select_from(EventRow).where(EventRow.relayed_at.is_(None))
                )
                depths = queue_depth_rows(session) or {}
            quiet = 0 if waiting or sum(depths.values()) else quiet + 1
            # Twice in a row, since a job may write an event as its last act.
            if quiet >= 2:
                return
            time.sleep(0.1)
        raise ReplayStuck("the queues", 0, 1)

    def _await(self, what: str, wanted: int, counting: object) -> None:
        """Wait until a count reaches what is wanted, as a stage of its own."""
        with self.stage(what) as rows:
            until, shown = time.monotonic() + PATIENCE_S, time.monotonic()
            done = 0
            while time.monotonic() < until:
                with database.begin() as session:
                    done = int(session.scalar(counting) or 0)  # type: ignore[call-overload]
                if done >= wanted:
                    rows.append(done)
                    return
                if time.monotonic() - shown > SHOW_EVERY_S:
                    shown = time.monotonic()
                    self.say(f"  {what}: {done} of {wanted}")
                time.sleep(0.05)
            raise ReplayStuck(what, done, wanted)

    def _shown(self, items: Sequence[Item]) -> Iterator[Item]:
        shown = time.monotonic()
        for number, item in enumerate(items):
            if time.monotonic() - shown > SHOW_EVERY_S:
                shown = time.monotonic()
                self.say(f"  {number} of {len(items)}")
            yield item


def replay(script: Script, addresses: Addresses, *, say: Say) -> Report:
    """Send a market through a started service.

    Raises:
        CallRefused, ReplayStuck.
    """
    return Drive(script, addresses, say).run()
