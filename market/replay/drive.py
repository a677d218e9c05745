"""Sends a market through the real service: from the lab's signup to the experts' banks.

Whatever a lab or ops would do goes over HTTP. What many experts and raters do goes through the
actions that the API calls, with the times that the market has. Everything that follows from these
is left to the relay, the queues and the workers, and waited for.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import func, select

from market.attempts.actions import claim_stump, make_attempt, submit_attempt
from market.attempts.models import Attempt
from market.auth import Part, keyring
from market.db import database, now
from market.earnings.models import Earning
from market.errors import MarketError
from market.events import EventRow
from market.offers.actions import accept_offer, decline_offer
from market.offers.models import Offer
from market.people.actions import grant_part, make_key, sign_up
from market.people.models import Membership, Person
from market.people.rules import scopes_of
from market.replay.caller import Caller, CallRefused
from market.replay.report import Report, Stage, report_on
from market.replay.script import (
    AttemptLine,
    Behaviour,
    ExpertLine,
    PairLine,
    Recorded,
    Script,
    TaskLine,
    whole_weeks_until,
)
from market.reviews.actions import claim_review, record_vote
from market.reviews.models import Review
from market.reviews.rules import Vote
from market.settings import in_force, read_settings
from market.submissions.models import Submission
from market.supervisor import Addresses
from market.tasks.models import Task
from market.treasury.actions import become_payee
from market.work.actions import beat, end_session, start_session
from market.work.models import TimeEntry
from payouts.models import Payout

Item = TypeVar("Item")
Say = Callable[[str], None]

BEAT_S = 30
MOST_AT_ONCE = 100
"""Offers that the service lets one expert hold."""

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
class Journey:
    """One attempt on its way: what the market said would happen, and the rows that it became."""

    line: AttemptLine
    offer_id: UUID
    expert_id: UUID
    attempt_id: UUID


@dataclass(slots=True)
class Drive:
    """A market on its way through a started service."""

    script: Script
    addresses: Addresses
    say: Say
    stages: list[Stage] = field(default_factory=list)
    project_id: UUID = field(default_factory=lambda: UUID(int=0))
    lab_key: str = ""
    ops_key: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[list[int]]:
        """Time a stretch; the block appends how many rows it handled."""
        self.say(f"{name} ...")
        rows: list[int] = []
        began = time.perf_counter()
        yield rows
        self.stages.append(Stage(name, sum(rows), time.perf_counter() - began))

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
            self.bring_tasks(batch, f" {number}" if len(batches) > 1 else "")
            if number == 1:
                self.launch()
            if behaviour is None:
                self.match(f"matching run {number}")
            else:
                self.work_in_waves(behaviour, str(number) if len(batches) > 1 else "")
        self.settle_queues()
        if behaviour is not None:
            self.pay_out()
            self.settle_queues()
        with database.begin() as session:
            return report_on(session, self.script, self.project_id, self.stages)

    def open_project(self) -> None:
        """A lab signs up, names its target model, drafts a project, and pays for it."""
        terms = self.script.terms
        with (
            self.stage("lab, project and funding") as rows,
            Caller(self.addresses.web, None) as any_one,
        ):
            joined = any_one.post(
                "/v1/signups",
                {
                    "part": "lab",
                    "name": "Lena Haddad",
                    "email": f"lena.{secrets.token_hex(4)}@lab.example",
                    "organisation_name": "Frontier Lab",
                },
            )
            self.lab_key = joined["api_key"]
            with Caller(self.addresses.web, self.lab_key) as lab:
                model = lab.post(
                    "/v1/target-models",
                    {
                        "name": "Model under test",
                        "base_url": self.addresses.target_model,
                        "model": "recorded" if self._is_recorded else "fluent-1",
                        "timeout_s": 20,
                        "max_tokens": 256,
                    },
                )
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
                        "review_ttl_s": 90 * 86_400,
                        "target_model_id": model["id"],
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
            answer = ops.upload("/v1/experts:import", _lines(map(_expert_row, self.script.experts)))
            rows.append(_all_taken("experts", answer))

    def bring_tasks(self, tasks: Sequence[TaskLine], suffix: str) -> None:
        """Tasks come in by bulk upload, and with them what is known of their pairs."""
        prefix = f"/v1/projects/prj_{self.project_id.hex}"
        mine = {task.task for task in tasks}
        pairs = [pair for pair in self.script.pairs if pair.task in mine]
        with Caller(self.addresses.web, self.lab_key) as lab:
            with self.stage(f"tasks{suffix}") as rows:
                answer = lab.upload(f"{prefix}/tasks:import", _lines(map(_task_row, tasks)))
                rows.append(_all_taken("tasks", answer))
            with self.stage(f"known pairs{suffix}") as rows:
                answer = lab.upload(f"{prefix}/interests:import", _lines(map(_pair_row, pairs)))
                rows.append(_all_taken("pairs", answer))

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

    def match(self, wave: int) -> int:
        """One matching run; how many offers it made."""
        with (
            Caller(self.addresses.web, self.ops_key) as ops,
            self.stage(f"matching run {wave}") as rows,
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

    def work_in_waves(self, behaviour: Behaviour, batch: str) -> None:
        """Match, work, review, and match again what is left, until a run offers nothing."""
        raters, expert_ids = self._bring_raters(), self._expert_ids()
        for number in range(1, WAVES + 1):
            wave = f"{batch}.{number}" if batch else str(number)
            if self.match(f"matching run {wave}") == 0:
                return
            journeys = self._work(behaviour, expert_ids, wave)
            if not journeys:
                return
            self._await(
                f"answers of the model {wave}",
                len(journeys),
                select(func.count())
                .select_from(Attempt)
                .where(Attempt.id.in_([j.attempt_id for j in journeys]), Attempt.state != "sent"),
            )
            self._submit(journeys, wave)
            self._review(behaviour, journeys, raters, wave)
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

    def _work(self, behaviour: Behaviour, experts: Mapping[UUID, str], wave: int) -> list[Journey]:
        """Every offer is accepted or declined; accepted ones are worked on, with a clock."""
        with database.begin() as session:
            offers = session.execute(
                select(Offer.id, Offer.expert_id, Task.external_id)
                .join(Task, Task.id == Offer.task_id)
                .where(Offer.project_id == self.project_id, Offer.state == "pending")
                .order_by(Offer.id)
            ).all()
            free_from = dict(
                session.execute(
                    select(TimeEntry.expert_id, func.max(func.upper(TimeEntry.during)))
                    .where(TimeEntry.expert_id.in_({row.expert_id for row in offers}))
                    .group_by(TimeEntry.expert_id)
                )
                .tuples()
                .all()
            )
        opened = now()
        plan: list[tuple[AttemptLine, UUID, UUID]] = []
        for offer_id, expert_id, task in offers:
            free = max(opened, free_from.get(expert_id, opened)) + timedelta(seconds=5)
            line = behaviour.attempt_of(experts[expert_id], task, free)
            if line is None:
                with database.begin() as session:
                    decline_offer(
                        session, offer_id, expert_id=expert_id, reason="no_time", at=now()
                    )
            else:
                plan.append((line, offer_id, expert_id))
        plan.sort(key=lambda one: one[0].sent_at)
        journeys = []
        with self.stage(f"work {wave}") as rows:
            for line, offer_id, expert_id in self._shown(plan):
                journeys.append(_work_once(line, offer_id, expert_id))
                rows.append(1)
        return journeys

    def _submit(self, journeys: Sequence[Journey], wave: int) -> None:
        with self.stage(f"submissions {wave}") as rows:
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
        wave: int,
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
            f"reviews opened {wave}",
            wanted,
            select(func.count()).select_from(Review).where(Review.submission_id.in_(ids)),
        )
        with self.stage(f"votes {wave}") as rows:
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
                    with database.begin() as session:
                        claim_review(session, review_id, reviewer_id=reviewer, at=at)
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
                            at=at + timedelta(seconds=vote.seconds),
                        )
                    rows.append(1)
        self._await(
            f"verdicts turned into pay {wave}",
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


def _work_once(line: AttemptLine, offer_id: UUID, expert_id: UUID) -> Journey:
    """Accept, start the clock, prove every half minute, ask the model, stop the clock."""
    sent = line.sent_at.replace(microsecond=0)
    begins = sent - timedelta(seconds=line.active_s)
    with database.begin() as session:
        accept_offer(session, offer_id, expert_id=expert_id, at=min(now(), begins))
        running = start_session(session, offer_id, expert_id=expert_id, at=begins)
        session_id = running.id
        moments = [begins + timedelta(seconds=s) for s in range(BEAT_S, line.active_s, BEAT_S)]
        for seq, at in enumerate([*moments, sent], 1):
            beat(session, session_id, expert_id=expert_id, seq=seq, is_active=True, at=at)
        attempt = make_attempt(
            session,
            offer_id,
            expert_id=expert_id,
            prompt=line.prompt,
            reference="The answer is wrong where it matters.",
            at=sent,
        )
        end_session(session, session_id, expert_id=expert_id, at=sent)
        return Journey(line, offer_id, expert_id, attempt.id)


def set_up_payees(
    owed: Iterable[UUID], lines: Sequence[ExpertLine], names: Mapping[UUID, str]
) -> None:
    """Say where each expert is paid; the payment provider's accounts are made by jobs."""
    countries = {line.expert: line.country for line in lines}
    for expert_id in owed:
        name = names[expert_id]
        with database.begin() as session:
            become_payee(
                session,
                expert_id=expert_id,
                country=countries[name],
                email=email_of(name),
                at=now(),
            )


def batches_of(script: Script) -> list[list[TaskLine]]:
    """The tasks as they came: a record's in its order, so many at a time as its experts may hold.

    An expert holds a hundred offers at most, and works forward in time; so what the record's
    busiest people did comes to the market in several batches.
    """
    if not isinstance(script.behaviour, Recorded):
        return [list(script.tasks)]
    room = {line.expert: min(line.capacity, MOST_AT_ONCE) for line in script.experts}
    by_name = {task.task: task for task in script.tasks}
    batches: list[list[TaskLine]] = [[]]
    held: Counter[str] = Counter()
    brought: set[str] = set()
    for line in sorted(script.behaviour.attempts.values(), key=lambda one: one.sent_at):
        if held[line.expert] == room[line.expert]:
            batches.append([])
            held.clear()
        held[line.expert] += 1
        if line.task not in brought:
            brought.add(line.task)
            batches[-1].append(by_name[line.task])
    batches[-1] += [task for task in script.tasks if task.task not in brought]
    return [batch for batch in batches if batch]


def email_of(name: str) -> str:
    """The address under which a person of a script signs up."""
    return f"{name}@people.example"


def _expert_row(line: ExpertLine) -> dict[str, object]:
    return {
        "email": email_of(line.expert),
        "name": line.expert.replace(".", " ").replace("-", " ").title(),
        "headline": line.headline,
        "domains": [{"domain": domain} for domain in line.domains],
        "country": line.country,
        "timezone": line.timezone,
        "weekly_hours": line.weekly_hours,
        "max_concurrent": min(line.capacity, MOST_AT_ONCE),
        "tier": line.pay_tier,
    }


def _task_row(task: TaskLine) -> dict[str, object]:
    return {
        "external_id": task.task,
        "domain": task.domain,
        "payload": {"instructions": task.instructions},
        "expected_s": task.expected_s,
        "complexity": task.complexity,
    }


def _pair_row(pair: PairLine) -> dict[str, object]:
    return {"expert": email_of(pair.expert), "task": pair.task, "value": pair.value}


def _lines(rows: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for row in rows:
        yield encode(row) + b"\n"


def _all_taken(what: str, answer: Mapping[str, object]) -> int:
    """How many rows an upload brought; a market that is not whole is not replayed."""
    if answer.get("rejected") or answer.get("conflict"):
        raise CallRefused(f"the upload of {what}", 200, str(answer)[:500])
    return int(str(answer["rows"]))


def open_here(environment: Mapping[str, str]) -> None:
    """Open this process's own database and keyring on a started service."""
    settings = in_force.open(read_settings(environment))
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=4)


def ops_key(email: str, *, name: str | None = None) -> str:
    """A new key for someone of ops, who is let in when nobody has this address yet."""
    at = datetime.now(UTC)
    with database.begin() as session:
        person_id = session.scalar(
            select(Person.id).where(func.lower(Person.email) == email.lower())
        )
        if person_id is None:
            return sign_up(session, part=Part.OPS, name=name or "Ops", email=email, at=at).secret
        membership: Membership = grant_part(
            session, person_id, Part.OPS, organisation_id=None, at=at
        )
        _, secret = make_key(
            session, membership, name="made by command", scopes=scopes_of(Part.OPS), days=90, at=at
        )
        return secret


def replay(script: Script, addresses: Addresses, *, say: Say) -> Report:
    """Send a market through a started service.

    Raises:
        CallRefused, ReplayStuck.
    """
    return Drive(script, addresses, say).run()
