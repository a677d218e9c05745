"""What the tests of Stripe's side act on: the stand-in, a mailbox for its webhooks, a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.db import database
from payouts import chart
from payouts.calls import Fact
from payouts.chart import AccountRef
from payouts.funding import plan_funding
from payouts.gateway import Gateway
from payouts.holds import HoldPolicy, Reason
from payouts.inbox import due_events, store_event
from payouts.ledger import Line, balance, post_entry
from payouts.models import Payee, Payout, Transfer
from payouts.money import Money
from payouts.opening import open_payout
from payouts.outcomes import Begin, CallOutcome, Result
from payouts.payees import ensure_payee
from payouts.sender import run_call
from payouts.states import HoldCode, HoldOwner, PayoutState
from payouts.webhooks import Applied, apply_event, refresh_payee
from tests.fakestripe import FakeStripe

SECRET = "whsec_snapshot"
THIN_SECRET = "whsec_thin"
API_KEY = "sk_test_stumpwork"
AT_ONCE = HoldPolicy(first_payout_wait=timedelta(0))
PERIOD_END = date(2026, 11, 22)


@dataclass(frozen=True, slots=True)
class Letter:
    """One webhook as it arrived."""

    endpoint: str
    payload: bytes
    signature: str


@dataclass(slots=True)
class Mailbox:
    """A receiver on loopback that keeps every webhook; it can refuse a number of them first."""

    letters: list[Letter] = field(default_factory=list)
    refuse: int = 0
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen."""
        mailbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if mailbox.refuse:
                    mailbox.refuse -= 1
                    status = 500
                else:
                    status = 200
                    mailbox.letters.append(
                        Letter(self.path.strip("/"), body, self.headers["stripe-signature"])
                    )
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def take(self) -> list[Letter]:
        """What came since the last look."""
        taken, self.letters = self.letters, []
        return taken


@dataclass(slots=True)
class Scene:
    """The stand-in and the product side by side, with real commits between them."""

    stripe: FakeStripe
    mailbox: Mailbox
    gateway: Gateway
    passed: timedelta = timedelta(0)
    facts: list[Fact] = field(default_factory=list)
    lab_id: UUID = field(default_factory=uuid4)

    def begin(self) -> AbstractContextManager[Session]:
        """One transaction of the platform's."""
        return database.begin()

    def now(self) -> datetime:
        """The time, which passes faster when a test says so."""
        return datetime.now(UTC) + self.passed

    def pass_time(self, **how_long: float) -> None:
        """Let time go by for both sides."""
        span = timedelta(**how_long)
        self.passed += span
        self.stripe.advance(span.total_seconds())

    def tell(self, session: Session, facts: Sequence[Fact]) -> None:
        """Keep what happened."""
        assert session.in_transaction()
        self.facts.extend(facts)

    def run(self, call_id: UUID | None) -> CallOutcome:
        """Make a planned call once."""
        assert call_id is not None
        return run_call(
            self.begin, self.gateway, call_id, now=self.now, tell=self.tell, policy=AT_ONCE
        )

    def insist(self, call_id: UUID | None) -> CallOutcome:
        """Make a call again and again, letting time pass in between, until it is over."""
        for _ in range(10):
            outcome = self.run(call_id)
            if outcome.result not in (Result.TRY_LATER, Result.BUSY):
                return outcome
            assert outcome.retry_at is not None
            wait = max(outcome.retry_at - self.now(), timedelta(0))
            self.pass_time(seconds=wait.total_seconds())
            # What the stand-in is still busy with takes real time too.
            time.sleep(0.25)
        raise AssertionError("the call was not over after ten tries")

    def store(self, letters: list[Letter]) -> list[UUID]:
        """Keep webhooks in the inbox; the ids of the new ones."""
        kept = []
        for letter in letters:
            secret = SECRET if letter.endpoint == "snapshot" else THIN_SECRET
            with self.begin() as session:
                event_id = store_event(
                    session,
                    payload=letter.payload,
                    signature=letter.signature,
                    secret=secret,
                    at=self.now(),
                    endpoint=letter.endpoint,
                )
            if event_id is not None:
                kept.append(event_id)
        return kept

    def apply(self, event_id: UUID) -> Applied:
        """Apply one event."""
        return apply_event(
            self.begin, self.gateway, event_id, now=self.now, tell=self.tell, policy=AT_ONCE
        )

    def deliver(self) -> list[Applied]:
        """Let everything happen that is due at Stripe, and take in every webhook about it."""
        self.stripe.settle()
        self.store(self.mailbox.take())
        with self.begin() as session:
            due = due_events(session, self.now(), limit=1000)
        return [self.apply(event_id) for event_id in due]

    def fund(self, amount_minor: int, method: str = "pm_card_bypassPending") -> UUID:
        """A lab pays in; the call is made, and nothing else has been heard yet."""
        funding_id = uuid4()
        with self.begin() as session:
            call = plan_funding(
                session,
                funding_id=funding_id,
                lab_id=self.lab_id,
                money=Money(amount_minor, "USD"),
                payment_method=method,
                at=self.now(),
            )
        self.insist(call.id)
        return funding_id

    def payee(self, *, onboarded: bool = True) -> Payee:
        """Someone who can be paid, or who still has to give Stripe what it asks for."""
        owner_id = uuid4()
        with self.begin() as session:
            payee = ensure_payee(
                session,
                owner_id=owner_id,
                country="US",
                email="e@example.com",
                at=self.now(),
            )
        self.insist(payee.account_call_id)
        payee = self.seen(owner_id)
        if onboarded:
            assert payee.account_id is not None
            self.stripe.onboard(payee.account_id)
            refresh_payee(
                self.begin, self.gateway, owner_id, now=self.now, tell=self.tell, policy=AT_ONCE
            )
        return self.seen(owner_id)

    def seen(self, owner_id: UUID) -> Payee:
        """The payee as the database has it now."""
        with self.begin() as session:
            return session.query(Payee).filter(Payee.owner_id == owner_id).one()

    def earn(self, owner_id: UUID, amount_minor: int) -> None:
        """A lab's settled money becomes owed to an expert."""
        with self.begin() as session:
            post_entry(
                session,
                key=f"earning:{uuid4()}",
                kind="earning",
                lines=[Line(chart.lab_funding(self.lab_id), chart.owed_to(owner_id), amount_minor)],
                at=self.now(),
            )

    def open(self, owner_id: UUID, period_end: date = PERIOD_END) -> Payout:
        """Open the payout of a period."""
        with self.begin() as session:
            payout = open_payout(
                session,
                owner_id=owner_id,
                currency="USD",
                period_end=period_end,
                at=self.now(),
                policy=AT_ONCE,
            )
        assert payout is not None
        return payout

    def payout(self, payout_id: UUID) -> Payout:
        """The payout as the database has it now."""
        with self.begin() as session:
            return session.get_one(Payout, payout_id)

    def posted(self, account: AccountRef) -> int:
        """What has been posted to a ledger account."""
        with self.begin() as session:
            return balance(session, account).posted_minor

    def available(self, account: AccountRef) -> int:
        """What may be taken from a ledger account."""
        with self.begin() as session:
            return balance(session, account).available_minor

    def kinds(self) -> list[str]:
        """What happened so far, in order."""
        return [str(fact.kind) for fact in self.facts]

    def agrees(self, *owners: UUID) -> None:
        """At a quiet moment our mirrors of Stripe's balances equal Stripe's, to the cent."""
        held = self.stripe.held("platform/available") + self.stripe.held("platform/pending")
        assert self.posted(chart.stripe_clearing()) == held
        for owner_id in owners:
            account_id = self.seen(owner_id).account_id
            assert self.posted(chart.connected_balance(owner_id)) == self.stripe.held(
                f"{account_id}/available"
            )


TRANSFER = "post /v1/transfers"


def batched(scene: Scene, amount_minor: int = 13_316) -> Payout:
    """A payout whose transfer is planned; the lab's money is there."""
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, amount_minor)
    payout = scene.open(owner_id)
    assert payout.state == PayoutState.BATCHED
    return payout


def live_transfers(scene: Scene, payout_id: UUID) -> int:
    """How many transfers the stand-in's bank made for one payout."""
    return sum(1 for t in scene.stripe.every("transfer") if t["transfer_group"] == str(payout_id))


@contextmanager
def in_the_way(begin: Begin, payout: Payout) -> Iterator[None]:
    """A transfer of a payout's that nobody made: meanwhile the database takes no other for it."""
    assert payout.call_id is not None
    with begin() as session:
        session.add(
            Transfer(
                payout_id=payout.id,
                owner_id=payout.owner_id,
                call_id=payout.call_id,
                stripe_id="tr_in_the_way",
                destination="acct_in_the_way",
                destination_payment=None,
                currency=payout.currency,
                amount_minor=payout.amount_minor,
                at=payout.opened_at,
            )
        )
    yield
    with begin() as session:
        # Only whoever owns the tables may take such a row away.
        session.execute(text("reset role"))
        session.execute(text("delete from payouts.transfer where stripe_id = 'tr_in_the_way'"))


def check_under_way(scene: Scene) -> Reason:
    """A reason that only a person can give."""
    return Reason(
        HoldCode.SANCTIONS,
        HoldOwner.PLATFORM,
        "A check is under way.",
        scene.now() + timedelta(days=2),
    )
