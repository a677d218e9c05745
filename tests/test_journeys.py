"""One task, from brief to bank: every part as a process of its own, spoken to over HTTP.

The web, the relay, a worker and a solver run under the supervisor on a PostgreSQL of their own,
beside the stand-ins for Stripe and for a target model. Nothing reaches past the API but the first
key of ops, and the looks at the books when all is done.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from market.auth import Part
from market.broker import DeadLetter
from market.db import database
from market.earnings.queries import unbacked_lines
from market.earnings.rules import week_of
from market.events import EventRow
from market.people.actions import sign_up
from market.supervisor import Market
from payouts.invariants import violations
from payouts.ledger import trial_balance
from payouts.pay import fee_minor, pay_minor

PATIENCE_S = 120.0
RATE_MINOR_PER_HOUR = 3_600_000
"""A thousand minor units a second, so that a short look at the clock is a payout worth sending."""

FUNDED_MINOR = 1_000_000

_numbers = count(1)


@dataclass(slots=True)
class Person:
    """Someone with a key, who speaks to the running service."""

    http: httpx.Client
    key: str
    ids: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, expect: int = 200, **given: Any) -> Any:
        """One request; another status than the expected one fails the test with the answer."""
        headers = given.pop("headers", {})
        if self.key:
            headers = {"Authorization": f"Bearer {self.key}", **headers}
        answer = self.http.request(method, path, headers=headers, **given)
        assert answer.status_code == expect, f"{method} {path}: {answer.text}"
        return answer.json()

    def get(self, path: str) -> Any:
        """Read."""
        return self.ask("GET", path)

    def post(self, path: str, expect: int = 200, *, key: str = "", **body: Any) -> Any:
        """Write; under an idempotency key where one is given."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.ask("POST", path, expect, json=body, headers=headers)


@dataclass(slots=True)
class Town:
    """The running service, and everybody in it."""

    market: Market
    http: httpx.Client
    ops: Person

    def sign_up(self, part: str) -> Person:
        """Somebody new, by the front door."""
        number = next(_numbers)
        body: dict[str, Any] = {
            "part": part,
            "name": f"{part} {number}",
            "email": f"{part}.{number}@journey.example",
        }
        if part == "lab":
            body["organisation_name"] = f"Lab {number}"
        joined = Person(self.http, "").ask("POST", "/v1/signups", 201, json=body)
        return Person(self.http, joined["api_key"], joined)

    def reviewer(self) -> Person:
        """Somebody whom ops let review."""
        joined = self.sign_up("expert")
        path = f"/v1/people/{joined.ids['person_id']}/parts"
        return Person(self.http, self.ops.post(path, 201, part="reviewer")["api_key"])

    def stripe(self, method: str, path: str, **body: Any) -> Any:
        """The stand-in's own controls."""
        answer = httpx.request(
            method, f"{self.market.addresses.stripe}{path}", json=body or None, timeout=30
        )
        answer.raise_for_status()
        return answer.json()


def wait_for(what: str, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What a look finds, as soon as it finds something."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come in {patience_s:.0f} s")


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """Every process of the house, started once; at the end none of them is left."""
    # A folder that others may enter: see EmbeddedPostgres.
    folder = Path(tempfile.mkdtemp(prefix="stumpwork-"))
    environment = {**os.environ, "STUMPWORK_FIRST_PAYOUT_WAIT_S": "0"}
    try:
        with Market(folder, durable=False, environ=environment) as market:
            database.open(market.addresses.database, pool_size=2)
            with database.begin() as session:
                ops = sign_up(
                    session,
                    part=Part.OPS,
                    name="Ops",
                    email="ops@journey.example",
                    at=datetime.now(UTC),
                )
            with httpx.Client(base_url=market.addresses.web, timeout=30, trust_env=False) as http:
                yield Town(market, http, Person(http, ops.secret))
            database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class Job:
    """A live project with one task, and the lab behind it."""

    lab: Person
    project: dict[str, Any]
    domain: str


def launch(town: Town, *, reviews: int) -> Job:
    """A lab pays in, names its model, and launches a project with money and one task."""
    lab = town.sign_up("lab")
    # A domain that nobody else in the town knows, so that its task is for one expert only.
    domain = f"arithmetic-{next(_numbers)}"
    model = lab.post(
        "/v1/target-models",
        201,
        name="Model under test",
        base_url=town.market.addresses.target_model,
        model="fake-1",
        samples=2,
    )
    project = lab.post(
        "/v1/projects",
        201,
        name="Long products",
        brief="Find sums that the model gets wrong.",
        domains=[domain],
        rate_minor_per_hour=RATE_MINOR_PER_HOUR,
        cap_s=60,
        reviews_per_submission=reviews,
        target_model_id=model["id"],
    )
    amount = {"amount_minor": FUNDED_MINOR, "currency": "USD"}
    funding = lab.post(
        "/v1/fundings", 201, key="pay-in", amount=amount, payment_method="pm_card_visa"
    )
    wait_for(
        "the lab's money",
        lambda: lab.get(f"/v1/fundings/{funding['id']}")["state"] == "succeeded",
    )
    prefix = f"/v1/projects/{project['id']}"
    lab.post(f"{prefix}/budget", 201, key="give", amount_minor=500_000, currency="USD")
    task = {
        "external_id": "t-1",
        "domain": domain,
        "payload": {"instructions": "Ask for a product that it gets wrong."},
        "expected_s": 60,
    }
    taken = lab.ask(
        "POST",
        f"{prefix}/tasks:import",
        201,
        content=json.dumps(task) + "\n",
        headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": "tasks"},
    )
    assert (taken["rows"], taken["created"]) == (1, 1), taken
    for action in ("submit", "pass", "launch"):
        seen = lab.get(prefix)
        lab.ask(
            "POST",
            f"{prefix}/transitions",
            json={"action": action, "reason_code": "no calibration needed"},
            headers={"If-Match": f'"{seen["version"]}"'},
        )
    assert lab.get(prefix)["state"] == "live"
    return Job(lab, lab.get(prefix), domain)


def join(town: Town, job: Job) -> Person:
    """An expert of the job's domain signs up and passes Stripe's onboarding."""
    expert = town.sign_up("expert")
    expert.post(
        "/v1/experts/me",
        201,
        headline="Arithmetician",
        country="US",
        domains=[{"domain": job.domain, "years": 7}],
    )
    expert.post("/v1/payees/me", 201, country="US")
    link = wait_for(
        "Stripe's account",
        lambda: (
            expert.http.put(
                "/v1/payees/me/onboarding-link", headers={"Authorization": f"Bearer {expert.key}"}
            )
            .json()
            .get("url")
        ),
    )
    page = httpx.post(link, timeout=30, follow_redirects=False)
    assert page.status_code < 400, page.text
    wait_for("Stripe's yes", lambda: expert.get("/v1/payees/me")["is_ready"])
    return expert


def match(town: Town, job: Job) -> None:
    """Ops ask for a matching run, and it ends well."""
    asked = town.ops.post("/v1/matching-runs", 202, project_id=job.project["id"], seed=1)
    path = f"/v1/operations/{asked['operation_id']}"
    done = wait_for("the matching run", lambda: over(town.ops.get(path)))
    assert done["state"] == "succeeded", done


def over(operation: dict[str, Any]) -> dict[str, Any] | None:
    return operation if operation["state"] in ("succeeded", "failed") else None


def work(expert: Person, job: Job, *, seconds: int) -> dict[str, Any]:
    """An expert accepts its offer, works with a beating heart, asks the model and hands in."""
    (offer,) = [
        one
        for one in expert.get("/v1/offers")["items"]
        if one["project_id"] == job.project["id"] and one["state"] == "pending"
    ]
    path = f"/v1/offers/{offer['id']}"
    refused = expert.ask("POST", f"{path}/accept", 412, headers={"If-Match": '"999"'})
    assert refused["code"] == "version_conflict"
    version = {"If-Match": f'"{expert.get(path)["version"]}"'}
    assert expert.ask("POST", f"{path}/accept", headers=version)["state"] == "accepted"
    session = expert.post(f"{path}/sessions", 201)
    attempt = expert.post(
        f"{path}/attempts",
        202,
        prompt="What is 98765 times 43219?",
        reference=str(98765 * 43219),
    )
    for seq in range(1, seconds + 1):
        time.sleep(1.0)
        pulse = expert.post(f"/v1/sessions/{session['id']}/heartbeats", seq=seq, is_active=True)
        assert pulse["is_counted"]
    answered = wait_for(
        "the model's answer",
        lambda: next(
            (
                found
                for found in [expert.get(f"/v1/attempts/{attempt['id']}")]
                if found["state"] not in ("drafted", "sent")
            ),
            None,
        ),
    )
    assert answered["state"] == "responded", answered
    assert len(answered["responses"]) == 2
    expert.post(f"/v1/attempts/{attempt['id']}/claim", claims_stump=True)
    handed_in: dict[str, Any] = expert.post(
        f"{path}/submission",
        201,
        payload={"why": "The last digits do not fit."},
        attempt_id=attempt["id"],
    )
    return handed_in


def review(town: Town, submission: dict[str, Any], reviewers: list[Person]) -> dict[str, Any]:
    """Every reviewer claims a review of the submission and votes; the last vote decides."""
    decided: dict[str, Any] = {}
    for reviewer in reviewers:
        mine = wait_for("a review", partial(queued_reviews, reviewer, submission["id"]))[0]
        reviewer.post(f"/v1/reviews/{mine['id']}/claim")
        decided = reviewer.post(
            f"/v1/reviews/{mine['id']}/vote",
            verdict="accept",
            model_failed=True,
            attempt_fair=True,
            seconds=30,
        )
    verdict: dict[str, Any] = decided["verdict"]
    return verdict


def queued_reviews(reviewer: Person, submission_id: str) -> list[dict[str, Any]]:
    items = reviewer.get("/v1/reviews?state=queued")["items"]
    return [one for one in items if one["submission_id"] == submission_id]


def pay_out(town: Town, *labs: Person) -> dict[str, Any]:
    """Every lab approves what waits for it, ops ask for the payouts of the last week, and the run
    ends well.
    """
    for lab in labs:
        waiting = [one["id"] for one in lab.get("/v1/hours")["items"]]
        if waiting:
            lab.post("/v1/hours/approve", 200, line_ids=waiting)
    monday = week_of(datetime.now(UTC)).isoformat()
    run = town.ops.post("/v1/payout-runs", 202, key=f"run-{next(_numbers)}", period_end=monday)
    path = f"/v1/operations/{run['operation_id']}"
    done: dict[str, Any] = wait_for("the payout run", lambda: over(town.ops.get(path)))
    assert done["state"] == "succeeded", done
    return done


def is_paid(expert: Person) -> bool:
    return [one["state"] for one in expert.get("/v1/payouts")["items"]] == ["paid"]


def all_is_quiet() -> bool:
    with database.begin() as session:
        waiting = session.scalar(
            select(func.count()).select_from(EventRow).where(EventRow.relayed_at.is_(None))
        )
    return waiting == 0


def assert_books_hold(town: Town) -> None:
    """Nothing waits, nothing died, and the books balance to the cent with Stripe's."""
    wait_for("quiet", all_is_quiet)
    with database.begin() as session:
        assert session.scalars(select(DeadLetter.error)).all() == []
        assert violations(session) == []
        assert unbacked_lines(session) == []
        rows = trial_balance(session)
    assert sum(row.debit_minor for row in rows) == sum(row.credit_minor for row in rows)
    told = town.ops.get("/v1/ledger/trial-balance")
    assert sum(row["debit_minor"] for row in told) == sum(row["credit_minor"] for row in told)
    places = town.stripe("GET", "/_bank")["places"]
    held = sum(
        places.get(f"platform/{part}", {}).get("usd", 0) for part in ("available", "pending")
    )
    (clearing,) = [row for row in told if row["code"] == "stripe_clearing"]
    assert clearing["debit_minor"] == held
    assert town.stripe("GET", "/_gate")["complaints"] == []
    assert town.stripe("GET", "/_bank/check")["ok"]


def test_one_task_from_brief_to_bank(town: Town) -> None:
    job = launch(town, reviews=3)
    expert = join(town, job)
    match(town, job)
    submission = work(expert, job, seconds=3)
    verdict = review(town, submission, [town.reviewer() for _ in range(3)])
    assert (verdict["is_accepted"], verdict["is_stump"], verdict["votes"]) == (True, True, 3)

    (line,) = wait_for("the earning", lambda: expert.get("/v1/earnings")["items"])
    assert line["seconds"] >= 3
    assert line["submission_id"] == submission["id"]
    assert line["pay_minor"] == pay_minor(line["seconds"], RATE_MINOR_PER_HOUR)
    spent = line["pay_minor"] + fee_minor(line["pay_minor"], 2000)
    (money,) = job.lab.get("/v1/balance")
    assert money["funded"]["amount_minor"] == FUNDED_MINOR
    assert money["spent"]["amount_minor"] == spent
    assert money["reserved"]["amount_minor"] == 0
    assert money["free"]["amount_minor"] == 500_000 - spent

    assert pay_out(town, job.lab)["result"]["payouts"] == 1
    wait_for("the bank", lambda: is_paid(expert))
    (payout,) = expert.get("/v1/payouts")["items"]
    assert payout["amount"]["amount_minor"] == line["pay_minor"]
    (line,) = expert.get("/v1/earnings")["items"]
    assert (line["state"], line["payout_id"]) == ("paid", payout["id"])
    stumps = job.lab.get(f"/v1/projects/{job.project['id']}/stumps")["items"]
    assert [one["submission_id"] for one in stumps] == [submission["id"]]
    assert_books_hold(town)


def test_a_worker_killed_while_stripe_answers_pays_once(town: Town) -> None:
    job = launch(town, reviews=1)
    expert = join(town, job)
    match(town, job)
    submission = work(expert, job, seconds=2)
    review(town, submission, [town.reviewer()])
    wait_for("the earning", lambda: expert.get("/v1/earnings")["items"])
    before = len(town.stripe("GET", "/_objects/transfer")["data"])
    # Stripe does what it is asked, and takes its time to say so.
    town.stripe("POST", "/_faults", operation="post /v1/transfers", kind="timeout_after", delay_s=8)
    pay_out(town, job.lab)
    wait_for(
        "the transfer",
        lambda: len(town.stripe("GET", "/_objects/transfer")["data"]) == before + 1,
    )
    os.kill(town.market.pids["worker"], signal.SIGKILL)
    town.stripe("DELETE", "/_faults")
    wait_for("the bank", lambda: is_paid(expert))
    assert len(town.stripe("GET", "/_objects/transfer")["data"]) == before + 1
    assert_books_hold(town)
