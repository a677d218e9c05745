"""A whole house for the tests of money: the web, its jobs, a database with real commits, and the
stand-in for Stripe beside it.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.approvals.actions import approve_lines
from market.auth import Part
from market.db import PLATFORM, database
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.events import Event, EventRow
from market.experts.actions import create_profile
from market.experts.rules import Claim, Profile
from market.reactions import REACTIONS
from payouts.chart import AccountRef
from payouts.ledger import Line, balance, post_entry
from payouts.models import Payee
from payouts.payees import payee_of
from tests.factories import AT, Caller, make_caller, make_project, make_task
from tests.fakestripe import FakeStripe
from tests.market.earned import end_offer, make_active_offer, work_on
from tests.payouts.scene import Letter, Mailbox

MONDAY = week_of(datetime.now(UTC))
"""The Monday of this week: the end of the last pay period."""

HOUR = 3600


@dataclass(slots=True)
class House:
    """What a test of money acts on."""

    web: TestClient[Any]
    stripe: FakeStripe
    mailbox: Mailbox
    ran: list[str] = field(default_factory=list)

    def begin(self) -> AbstractContextManager[Session]:
        """One transaction of the platform's."""
        return database.begin(PLATFORM)

    def caller(self, part: Part) -> Caller:
        """Someone who signed up, with a key."""
        with database.begin(PLATFORM) as session:
            return make_caller(session, self.web, part)

    def expert(self, tier: str = "T1") -> Caller:
        """Someone who signed up as an expert and made a profile."""
        caller = self.caller(Part.EXPERT)
        with self.begin() as session:
            create_profile(
                session,
                caller.person_id,
                Profile(claims=(Claim("chemistry"),)),
                at=datetime.now(UTC),
                tier=tier,
            )
        return caller

    def react(self) -> list[str]:
        """Run every job that follows from what has happened; their names, in order."""
        ran: list[str] = []
        for _ in range(500):
            with self.begin() as session:
                row = session.scalars(
                    select(EventRow)
                    .where(EventRow.relayed_at.is_(None))
                    .order_by(EventRow.id)
                    .limit(1)
                ).first()
                if row is None:
                    self.ran += ran
                    return ran
                row.relayed_at = row.at
                kind, subject = Event(row.type), row.subject_id
            for job in REACTIONS.get(kind, ()):
                job(str(subject))
                ran.append(job.name)
        raise AssertionError("events kept following from events 500 times")

    def receive(self, letter: Letter) -> int:
        """Let one webhook in; the status of the answer."""
        path = "/webhooks/stripe" if letter.endpoint == "snapshot" else "/webhooks/stripe-thin"
        answer = self.web.post(
            path,
            content=letter.payload,
            headers={"stripe-signature": letter.signature, "content-type": "application/json"},
        )
        return answer.status_code

    def hear(self) -> list[str]:
        """Let everything happen that is due at Stripe, take in its webhooks and do what follows."""
        ran = self.react()
        for _ in range(5):
            self.stripe.settle()
            letters = self.mailbox.take()
            for letter in letters:
                assert self.receive(letter) == 200
            ran += self.react()
            if not letters:
                return ran
            time.sleep(0.05)
        return ran

    def fund(self, lab: Caller, amount_minor: int, method: str = "pm_card_bypassPending") -> str:
        """A lab pays in; the id of its funding."""
        answer = lab.post(
            "/v1/fundings",
            json={
                "amount": {"amount_minor": amount_minor, "currency": "USD"},
                "payment_method": method,
            },
            headers={"Idempotency-Key": f"fund-{amount_minor}-{method}"},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def become_payee(self, expert: Caller) -> Payee:
        """An expert says where to be paid, and passes Stripe's onboarding."""
        answer = expert.post("/v1/payees/me", json={"country": "US"})
        assert answer.status_code == 201, answer.text
        self.react()
        with self.begin() as session:
            payee = payee_of(session, expert.person_id)
        assert payee is not None
        assert payee.account_id is not None
        self.stripe.onboard(payee.account_id)
        self.hear()
        return payee

    def post(self, debit: AccountRef, credit: AccountRef, amount_minor: int, key: str) -> None:
        """An entry in the books, past the features that make them."""
        with self.begin() as session:
            lines = [Line(debit, credit, amount_minor)]
            post_entry(session, key=key, kind="test", lines=lines, at=datetime.now(UTC))

    def pay_out(self, ops: Caller, period_end: date = MONDAY, key: str = "run-1") -> dict[str, Any]:
        """Every line that waits is approved, ops ask for a payout run, and its jobs run; the
        operation that it ended with.
        """
        self.approve()
        answer = ops.post(
            "/v1/payout-runs",
            json={"period_end": period_end.isoformat()},
            headers={"Idempotency-Key": key},
        )
        assert answer.status_code == 202, answer.text
        self.react()
        operation: dict[str, Any] = ops.get(answer.headers["location"]).json()
        return operation

    def approve(self) -> None:
        """Labs approve every line of pay that waits for them."""
        with self.begin() as session:
            waiting = select(Earning.expert_id).where(Earning.state == "accrued").distinct()
            experts = session.scalars(waiting).all()
            for expert_id in experts:
                lines = session.scalars(
                    select(Earning.id).where(
                        Earning.expert_id == expert_id, Earning.state == "accrued"
                    )
                ).all()
                approve_lines(session, expert_id, lines, at=datetime.now(UTC))

    def posted(self, account: AccountRef) -> int:
        """What has been posted to a ledger account."""
        with self.begin() as session:
            return balance(session, account).posted_minor

    def events(self, kind: Event) -> list[UUID]:
        """The subjects of every event of a kind, in order."""
        with self.begin() as session:
            return list(
                session.scalars(
                    select(EventRow.subject_id).where(EventRow.type == kind).order_by(EventRow.id)
                )
            )


def earn(house: House, expert: Caller, seconds: int = 2 * HOUR, *, since: datetime = AT) -> int:
    """Time that was worked on a project with settled money, credited; what it pays."""
    at = datetime.now(UTC)
    with house.begin() as session:
        project = make_project(session)
        offer = make_active_offer(
            session, project, make_task(session, project), expert.person_id, at=at
        )
        work_on(session, offer, since, seconds)
        end_offer(session, offer)
        lines = accrue_earning(session, offer.id, at=at)
        return sum(line.pay_minor for line in lines)


def paid_in(house: House) -> None:
    """Money at Stripe for transfers to be made of."""
    lab = house.caller(Part.LAB)
    house.fund(lab, 5_000_000)
    house.hear()


def as_owner(house: House, statement: str) -> None:
    """Change a table, as only whoever owns it may."""
    with house.begin() as session:
        session.execute(text("reset role"))
        session.execute(text(statement))
