"""One case of the matrix: a write to Stripe, the point where its process dies, and what else fails.

The driver plays whoever starts processes again, the clock, Stripe's redelivery, and the person who
decides on what no machine may decide. What dies is a process of `tests.chaos.money_process`.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

import httpx
import msgspec
from sqlalchemy import func, select, text

from market import relay
from market.broker import open_broker
from market.db import new_id
from market.events import Event
from market.feeds import publish
from market.settings import in_force
from payouts.decisions import approve_new_attempt, resolve_unknown
from payouts.holds import open_holds
from payouts.invariants import violations
from payouts.models import ExternalCall, Payee, Payout, StripeEvent
from payouts.outcomes import Result
from payouts.reconciliation import reconcile
from payouts.sender import AT_ONCE as TRANSFERS_LEASED
from payouts.states import CallOperation, CallState, PayoutState
from payouts.transfers import clear_hold, held_payouts
from tests.chaos.money_process import (
    ANSWERED,
    ANY,
    APPLIED,
    LEASED,
    PULLED,
    RELAYED,
    STORED,
    TRANSFERS_AT_ONCE,
    Command,
    Place,
)
from tests.chaos.money_writes import PLANNER, WRITES, Books, Order, plan
from tests.fakestripe.delivery import signature
from tests.payouts.scene import AT_ONCE, Letter

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
BATCH = 3
"""How many subjects a batch has that dies half through."""
FULL = TRANSFERS_LEASED + 2
"""How many fill all that a sender leases together, and leave some for the next lease."""

FAULTS: dict[str, tuple[str, dict[str, object]]] = {
    "F2": ("timeout_before", {"delay_s": 4.0}),
    "F3": ("timeout_after", {"delay_s": 4.0}),
    "F4": ("drop_after", {}),
    "F5": ("cut_body", {}),
    "F6": ("429", {"should_retry": "true", "retry_after": "2"}),
    "F6'": ("429", {"should_retry": "false"}),
    "F7": ("500_before", {}),
    "F8": ("500_after", {}),
    "F9": ("502_html", {}),
    "F10": ("409", {}),
    "F11": ("mismatch", {}),
    # Cut off after it was done, and asked again only when Stripe has forgotten the key.
    "F12": ("drop_after", {}),
}
"""The faults of transport by their numbers in the design: what the stand-in does."""

OF_INVOICES = (
    CallOperation.CUSTOMER,
    CallOperation.INVOICE,
    CallOperation.INVOICE_LINE,
    CallOperation.INVOICE_OPENING,
)
KEY_FORGOTTEN = timedelta(hours=25)
TOLD_ONCE = {
    CallOperation.ACCOUNT: Event.PAYEE_OPENED,
    CallOperation.REFUND: Event.REFUND_SENT,
    CallOperation.TRANSFER: Event.PAYOUT_TRANSFERRED,
    CallOperation.REVERSAL: Event.PAYOUT_REVERSED,
    CallOperation.DISPUTE_EVIDENCE: Event.DISPUTE_ANSWERED,
    CallOperation.PLATFORM_PAYOUT: Event.PLATFORM_PAYOUT_SENT,
}
"""What the outbox says exactly once for each write that was made."""


@dataclass(frozen=True, slots=True)
class Case:
    """Which write, where its process is killed, and which fault strikes (none, or one)."""

    operation: CallOperation
    crash: str
    fault: str = ""
    batch: int = 0
    """How many writes there are, where it is not what the point asks for."""

    def __str__(self) -> str:
        many = f"of {self.batch}" if self.batch else ""
        return " ".join(filter(None, (self.operation, self.crash, self.fault, many)))


class Broken(AssertionError):
    """What does not hold after a case."""


class Workshop:
    """Starts the processes that are killed, and hears what they say."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.money_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._alive = 0
        self._said: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            self._said.put(line.strip())
        self._said.put("gone")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._parent.stdin is not None
        with suppress(BrokenPipeError):
            self._parent.stdin.close()
        try:
            self._parent.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._parent.kill()
            self._parent.wait(timeout=10)
        self._listener.join(timeout=10)
        assert self._parent.stdout is not None
        self._parent.stdout.close()

    def hear(self, word: str) -> str:
        """Wait for a word, and give what follows it.

        Raises:
            Broken: the process said something else, such as that it has ended.
        """
        said = self._said.get(timeout=PATIENCE_S)
        if said.startswith("ended"):
            self._alive = 0
        if said.partition(" ")[0] != word:
            raise Broken(f"a process that should have said {word!r} said {said!r}")
        return said.partition(" ")[2]

    def begin(self, command: Command) -> int:
        """Start a process; its id."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(msgspec.json.encode(command).decode() + "\n")
        self._parent.stdin.flush()
        self._alive = int(self.hear("began"))
        return self._alive

    def end_all(self) -> None:
        """After a case that broke: end its process, if one lives, and forget what it said."""
        if self._alive:
            with suppress(ProcessLookupError):
                os.kill(self._alive, signal.SIGKILL)
            while self._said.get(timeout=PATIENCE_S).partition(" ")[0] != "ended":
                pass
            self._alive = 0

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait until it has struck."""
        os.kill(pid, signal.SIGKILL)
        if int(self.hear("ended")) != -signal.SIGKILL:
            raise Broken("the process had ended by itself")


class Run:
    """One case from its first row to its verdict."""

    def __init__(self, case: Case, books: Books, workshop: Workshop, place: Place) -> None:
        self.case, self.books = case, books
        self._workshop, self._place = workshop, place
        self._write = WRITES[case.operation]
        self._orders: list[Order] = []
        self._letters: list[Letter] = []
        self._planned_before = 0
        # The outbox keeps what earlier cases told; ids are in the order of time.
        self._began = new_id()

    def play(self) -> None:
        """Everything.

        Raises:
            Broken: something does not hold in the end.
        """
        many = self.case.batch or (BATCH if self.case.crash == "K10" else 1)
        for number in range(many):
            order = self._write.prepare(self.books, self.case.operation, number)
            self._orders.append(order)
        if not self._is_paused:
            self.books.deliver()
        self._planned_before = len(self._calls())
        getattr(self, f"_crash_{self.case.crash.lower()}")()
        self._finish_calls()
        self._finish()
        self._judge()

    # Where processes die --------------------------------------------------------------------------

    def _crash_k1(self) -> None:
        self._die("plan", ANY, is_before=True, orders=tuple(self._orders))
        if len(self._calls()) != self._planned_before:
            raise Broken("a plan that was not committed is there")
        self._plan()
        self._strike()

    def _crash_k2(self) -> None:
        self._die("plan", ANY, orders=tuple(self._orders))
        if len(self._calls()) != self._planned_before + 1:
            raise Broken("a plan that was committed is gone")
        self._strike()

    def _crash_k3(self) -> None:
        self._plan()
        self._die("send", LEASED)
        self._strike()

    def _crash_k4(self) -> None:
        self._plan()
        # Of many half are answered first, and not recorded yet.
        first, path = self.case.batch // 2, self._write.path
        self.books.stripe.ask("POST", "/_answers/withhold", operation=path, after=first)
        pid = self._begin("send")
        self._wait(lambda: self.books.stripe.ask("GET", "/_answers/withhold")["withheld"] > 0)
        self._workshop.kill(pid)
        self.books.stripe.ask("DELETE", "/_answers/withhold")
        self._strike()

    def _crash_k5(self) -> None:
        self._plan()
        self._meet_fault()
        self._die("send", ANSWERED, is_before=True)

    def _crash_k6(self) -> None:
        self._plan()
        self._meet_fault()
        self._die("send", ANSWERED)

    def _crash_k7(self) -> None:
        self._plan()
        self._strike()
        self._finish_calls()
        self._die("relay", RELAYED, is_before=True)

    def _crash_k8(self) -> None:
        self._told_by_webhook(dies_in_web=True)
        pid, port = self._serve(None)
        self._post(port)
        self._workshop.kill(pid)

    def _crash_k9(self) -> None:
        self._told_by_webhook(dies_in_web=False)
        # Of a page for onboarding Stripe tells nothing, so that nothing is left to apply.
        if self.case.operation is not CallOperation.ACCOUNT_LINK:
            self._die("apply", APPLIED, is_before=True)

    def _crash_k10(self) -> None:
        self._plan()
        self._die("send", LEASED, nth=2)
        self._strike()

    def _crash_k11(self) -> None:
        self._plan()
        self._strike()
        self._finish_calls()
        self._die("reconcile", PULLED, owners=tuple(one.owner_id for one in self._payees()))

    def _told_by_webhook(self, *, dies_in_web: bool) -> None:
        """Stripe tells of the write; the web process dies before its answer, or just after."""
        self._plan()
        self._strike()
        self._finish_calls()
        books = self.books
        self._wait(lambda: not books.stripe.ask("GET", "/_webhooks")["waiting"])
        # A page for onboarding is told by no event: then it is any, which must do nothing.
        self._letters += books.mailbox.take() or [self._some_event()]
        pid, port = self._serve(STORED if dies_in_web else None)
        if not dies_in_web:
            self._post(port)
            self._workshop.kill(pid)
            return
        answers: list[int] = []
        caller = threading.Thread(target=lambda: answers.extend(self._post(port, first=True)))
        caller.start()
        self._workshop.hear("held")
        self._workshop.kill(pid)
        caller.join(PATIENCE_S)
        if answers:
            raise Broken(f"a webhook was answered {answers} before its process died")

    # What processes do ----------------------------------------------------------------------------

    @property
    def _is_paused(self) -> bool:
        """Money that is to be taken back must not have left for the bank."""
        return self.case.operation is CallOperation.REVERSAL

    def _command(self, act: str) -> Command:
        passed_s = self.books.passed.total_seconds()
        at_once = TRANSFERS_LEASED if self.case.batch else TRANSFERS_AT_ONCE
        return Command(act=act, place=self._place, passed_s=passed_s, at_once=at_once)

    def _begin(self, act: str) -> int:
        return self._workshop.begin(self._command(act))

    def _die(
        self,
        act: str,
        mark: str,
        *,
        is_before: bool = False,
        nth: int = 1,
        orders: tuple[Order, ...] = (),
        owners: tuple[UUID, ...] = (),
    ) -> None:
        command = msgspec.structs.replace(
            self._command(act),
            mark=mark,
            is_before=is_before,
            nth=nth,
            orders=orders,
            owners=owners,
        )
        pid = self._workshop.begin(command)
        self._workshop.hear("held")
        self._workshop.kill(pid)

    def _serve(self, mark: str | None) -> tuple[int, int]:
        command = msgspec.structs.replace(self._command("serve"), mark=mark or "")
        pid = self._workshop.begin(command)
        return pid, int(self._workshop.hear("listening"))

    def _post(self, port: int, *, first: bool = False) -> list[int]:
        """Deliver the letters, signed anew, as Stripe signs each try; the statuses."""
        answers = []
        for letter in self._letters[: 1 if first else None]:
            is_thin = letter.endpoint == "thin"
            secret = self._place.thin_secret if is_thin else self._place.secret
            signed = signature(letter.payload, [secret], int(time.time()))
            with suppress(httpx.HTTPError):
                answer = httpx.post(
                    f"http://127.0.0.1:{port}/webhooks/stripe{'-thin' if is_thin else ''}",
                    content=letter.payload,
                    headers={"stripe-signature": signed, "content-type": "application/json"},
                    timeout=PATIENCE_S,
                    trust_env=False,
                )
                answers.append(answer.status_code)
        if not first and set(answers) != {200}:
            raise Broken(f"webhooks were answered {answers}")
        return answers

    def _some_event(self) -> Letter:
        with self.books.begin() as session:
            row = session.scalars(select(StripeEvent).limit(1)).first()
        if row is None:
            raise Broken("Stripe has told of nothing at all")
        return Letter(row.endpoint, row.payload, "")

    def _wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > end:
                raise Broken("what was waited for did not come")
            time.sleep(0.01)

    # What the driver does -------------------------------------------------------------------------

    def _plan(self) -> None:
        for order in self._orders:
            with self.books.begin() as session:
                plan(session, order, self.books.now)

    def _strike(self) -> None:
        """Let the fault wait for the next sending; a forgotten key is one sending and a day on."""
        if self.case.fault:
            kind, how = FAULTS[self.case.fault]
            self.books.stripe.fault(self._write.path, kind, **how)
        if self.case.fault == "F12":
            for call in self._open():
                self._send(call.id)
            self._pass(KEY_FORGOTTEN)

    def _meet_fault(self) -> None:
        """Let the first sending go wrong, so that the next one is the one whose process dies."""
        self._strike()
        # A key that was misused is over with its first answer, so that is the one to die in.
        if self.case.fault and self.case.fault not in ("F11", "F12"):
            for call in self._open():
                self._send(call.id)
            # A request that timed out here may still hold its key there.
            self._wait(lambda: not self.books.stripe.ask("GET", "/_requests")["in_flight"])

    def _calls(self) -> list[ExternalCall]:
        with self.books.begin() as session:
            return list(
                session.scalars(
                    select(ExternalCall)
                    .where(ExternalCall.operation == self.case.operation)
                    .order_by(ExternalCall.planned_at)
                )
            )

    def _open(self) -> list[ExternalCall]:
        over = (CallState.CONFIRMED, CallState.REFUSED)
        with self.books.begin() as session:
            return list(
                session.scalars(select(ExternalCall).where(ExternalCall.state.not_in(over)))
            )

    def _send(self, call_id: UUID) -> None:
        """Make a call once; when it is to be tried later, later is now."""
        outcome = self.books.run(call_id)
        if outcome.result in (Result.TRY_LATER, Result.BUSY) and outcome.retry_at is not None:
            self._until(outcome.retry_at - self.books.now())

    def _pass(self, span: timedelta) -> None:
        """Let time go by; what Stripe has told of is taken in first, as its signature ages."""
        came = self.books.mailbox.take()
        self.books.store(came)
        self._letters += came
        self.books.pass_time(seconds=span.total_seconds())

    def _until(self, wait: timedelta) -> None:
        self._pass(max(wait, timedelta(0)))
        # What the stand-in is still busy with takes real time too.
        time.sleep(0.1)

    def _finish_calls(self) -> None:
        """What the sweep does by the minute, and what a person decides, until no call is open."""
        for _ in range(60):
            open_calls = self._open()
            if not open_calls and not self._ask_again():
                return
            for call in open_calls:
                if call.state == CallState.UNKNOWN:
                    self._look_for(call.id)
                else:
                    self._send(call.id)
        raise Broken(f"calls are still open: {[str(one.state) for one in self._open()]}")

    def _look_for(self, call_id: UUID) -> None:
        books = self.books
        outcome = resolve_unknown(
            books.begin, books.gateway, call_id, now=books.now, tell=books.tell
        )
        if outcome.retry_at is not None:
            self._until(outcome.retry_at - books.now())
        elif outcome.result is Result.NOT_FOUND:
            with books.begin() as session:
                facts = approve_new_attempt(
                    session,
                    call_id,
                    by=PLANNER,
                    reason="Looked for twice.",
                    at=books.now(),
                    policy=AT_ONCE,
                )
                books.tell(session, facts)

    def _ask_again(self) -> bool:
        """What was definitely refused is asked for again by whoever wanted it; whether any was."""
        books = self.books
        if self.case.operation is CallOperation.TRANSFER:
            with books.begin() as session:
                held = held_payouts(session)
                for payout_id in held:
                    for hold in open_holds(session, payout_id):
                        clear_hold(
                            session,
                            hold.id,
                            by=PLANNER,
                            note="Sent again.",
                            at=books.now(),
                            policy=AT_ONCE,
                        )
            return bool(held)
        missing = [n for n, one in enumerate(self._orders) if not self._write.made(books, one)]
        for number in missing:
            order = self._orders[number]
            if self.case.operation is CallOperation.PAYMENT_INTENT:
                order = msgspec.structs.replace(order, subject_id=uuid4())
            if self.case.operation in OF_INVOICES:
                # A funding that failed stays so; its lab asks for another.
                order = self._write.prepare(books, self.case.operation, 10 + number)
            if self.case.operation is CallOperation.ACCOUNT_LINK:
                # A page of its own for each five minutes.
                self._pass(timedelta(minutes=5))
            with books.begin() as session:
                plan(session, order, books.now)
            self._orders[number] = order
        return bool(missing)

    def _finish(self) -> None:
        """Webhooks, the outbox and the bank come to rest."""
        books = self.books
        books.stripe.no_faults()
        books.stripe.ask("POST", "/_clock", paused=False)
        books.deliver()
        # A webhook may come before what it is about is known, and is parked then.
        books.pass_time(minutes=2)
        books.deliver()
        self._relay_all()

    def _relay_all(self) -> None:
        broker = open_broker(in_force.settings)
        with self.books.begin() as session:
            while publish(session, at=self.books.now()):
                pass
        while relay.relay_batch(broker, at=self.books.now()):
            pass
        broker.close()

    def _payees(self) -> list[Payee]:
        with self.books.begin() as session:
            return list(session.scalars(select(Payee).where(Payee.account_id.is_not(None))))

    # What has to hold -----------------------------------------------------------------------------

    def _judge(self) -> None:
        found = list(self._problems())
        if found:
            raise Broken("; ".join(found))

    def _problems(self) -> Iterator[str]:
        books = self.books
        for order in self._orders:
            made = self._write.made(books, order)
            if made != 1:
                yield f"the stand-in has it {made} times"
        if self._open():
            yield "a call is still open"
        owners = [one.owner_id for one in self._payees()]
        try:
            books.stripe.assert_clean()
            books.agrees(*owners)
        except AssertionError as different:
            yield f"the stand-in and the books: {different}"
        seen = reconcile(books.begin, books.gateway, now=books.now, owners=owners)
        if seen.open_breaks:
            yield f"reconciliation finds {dict(seen.by_kind)}"
        with books.begin() as session:
            yield from (f"{one.invariant} {one.subject}" for one in violations(session))
            waiting = session.scalar(
                text("select count(*) from market.event where relayed_at is null")
            )
            if waiting:
                yield f"{waiting} events were not relayed"
            unpaid = session.scalar(
                select(func.count()).where(
                    Payout.state.not_in((PayoutState.PAID, PayoutState.REVERSED))
                )
            )
            if unpaid:
                yield f"{unpaid} payouts have not come to their end"
            told = TOLD_ONCE.get(self.case.operation)
            if told is not None:
                count = session.scalar(
                    text("select count(*) from market.event where type = :type and id > :began"),
                    {"type": told.value, "began": self._began},
                )
                wanted = len(self._orders)
                if count != wanted:
                    yield f"{told.value} was told {count} times, not {wanted}"
