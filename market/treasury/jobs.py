"""Asking Stripe and hearing from it: what stands between two transactions."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from market.broker import job
from market.db import database, now
from market.errors import MarketError
from market.events import Event, emit
from market.fundings.actions import warn_of_budgets
from market.fundings.queries import funding
from market.settings import in_force
from market.treasury.actions import (
    ask_for_more,
    gateway,
    has_stripe,
    hold_policy,
    is_live,
    record_facts,
)
from market.treasury.queries import at_stripe, owners_unready, payout
from market.treasury.rules import StripeDiffers, differences
from payouts.calls import Fact, due_calls, unknown_calls
from payouts.decisions import resolve_unknown
from payouts.errors import (
    EventUnclear,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
    PayoutsError,
)
from payouts.inbox import accounts_to_watch, catch_up, due_events, own_events_listed_at
from payouts.invoices import next_call, open_past_due, record_overdue
from payouts.models import ExternalCall, Payee
from payouts.outcomes import CallOutcome, Result
from payouts.recoveries import write_off_old
from payouts.sender import ROWS_FAULT, run_call, send_transfers
from payouts.states import CallState, InboxState
from payouts.transfers import held_payouts, review_payout
from payouts.webhooks import apply_event, refresh_payee, review_owner

log = structlog.get_logger(__name__)

FAULTS = (PayoutsError, MarketError, *ROWS_FAULT)
"""What keeps one row from being recorded, and none of the others."""

WATCH_FOR = timedelta(days=45)
"""How long after a transfer an account's events are listed: banks return money late."""

OVERLAP = timedelta(hours=3)
"""How far back each hourly list of missed events reaches."""

LIST_FOR = timedelta(minutes=20)
"""How long one job lists events; the accounts that it does not come to are the next one's first."""

SEND_FOR = timedelta(seconds=20)
"""How long one job sends transfers before it lets other work of its queue have its turn."""

SWEEP_FOR = timedelta(seconds=50)
"""How long each sweep sends: until the next one comes, so that they never fill their queue."""

REVIEW_AT_ONCE = 1000
"""How many payouts that wait are listed together."""

WRITES_OF_FUNDING = 4
"""An invoice takes the most: whom it is for, the invoice, its line, and letting it be paid."""


def tell(session: Session, facts: Sequence[Fact]) -> None:
    """Say here what happened to money, in the transaction that made it so."""
    record_facts(session, facts, at=now())


def _make_call(call_id: UUID) -> None:
    outcome = run_call(database.begin, gateway(), call_id, now=now, tell=tell, policy=hold_policy())
    _warn_of(outcome)


def _send_transfers(how_long: timedelta) -> bool:
    """Send what is planned, at the pace of the bucket, until none is left or the time is over;
    whether it was the time.
    """
    until = now() + how_long
    while True:
        outcomes = send_transfers(
            database.begin, gateway(), now=now, tell=tell, policy=hold_policy()
        )
        for outcome in outcomes:
            _warn_of(outcome)
        later = any(outcome.result is Result.TRY_LATER for outcome in outcomes)
        if not outcomes or later:
            return False
        if now() >= until:
            return True


def _warn_of(outcome: CallOutcome) -> None:
    if outcome.result in (Result.TRY_LATER, Result.UNKNOWN):
        # The sweep comes back to it: the row says when.
        log.warning(
            "stripe.not_told",
            call_id=str(outcome.call_id),
            result=str(outcome.result),
            retry_at=str(outcome.retry_at),
            reason=outcome.text,
        )


@job(queue="money")
def start_funding(funding_id: str) -> None:
    """Ask a lab's bank or card for the money, or send it an invoice."""
    with database.begin() as session:
        call_id: UUID | None = funding(session, UUID(funding_id)).external_call_id
    for _ in range(WRITES_OF_FUNDING):
        if call_id is None:
            return
        _make_call(call_id)
        with database.begin() as session:
            # An invoice is several writes; what a crash leaves of them, the sweep goes on with.
            call_id = next_call(session, UUID(funding_id))


@job(queue="money")
def make_stripe_call(call_id: str) -> None:
    """Make a planned call of which nothing else here keeps a row."""
    _make_call(UUID(call_id))


@job(queue="money")
def create_payee(payee_id: str) -> None:
    """Open a connected account for an expert; one that is open is looked at again."""
    with database.begin() as session:
        payee = session.get_one(Payee, UUID(payee_id))
        owner_id, account_id, call_id = payee.owner_id, payee.account_id, payee.account_call_id
    if account_id is not None:
        _refresh(owner_id)
    elif call_id is not None:
        _make_call(call_id)


@job(queue="money")
def review_payee(payee_id: str) -> None:
    """Look again at what waits for an expert who can be paid from now on."""
    with database.begin() as session:
        owner_id = session.get_one(Payee, UUID(payee_id)).owner_id
        tell(session, review_owner(session, owner_id, now(), hold_policy()))


@job(queue="money", line="bulk")
def send_payout(payout_id: str) -> None:
    """Send a payout's transfer, together with others that are planned.

    There is such a job for each of them; those whose transfer has gone with another's do nothing.
    One that had no time to send all of them queues the next such job itself.
    """
    with database.begin() as session:
        found = payout(session, UUID(payout_id))
        # Without a call it was held, or refused, since this was queued.
        call = session.get(ExternalCall, found.call_id) if found.call_id is not None else None
    if call is None:
        return
    if call.state == CallState.PLANNED:
        if _send_transfers(SEND_FOR):
            with database.begin() as session:
                ask_for_more(session, at=now())
    elif call.state == CallState.SENT:
        _make_call(call.id)


@job(queue="money")
def apply_stripe_event(event_id: str) -> None:
    """Fetch what Stripe says has changed, and move along.

    Raises:
        EventUnclear: it was left to a person before, and still is.
    """
    applied = apply_event(
        database.begin, gateway(), UUID(event_id), now=now, tell=tell, policy=hold_policy()
    )
    # Where it has just become so, the fact of that queues this job once more.
    if applied.state == InboxState.BROKEN and not applied.facts:
        raise EventUnclear(applied.note)


# By the clock -------------------------------------------------------------------------------------


@job(queue="money", time_limit_s=1800)
def sweep_stripe(slot: str) -> None:
    """Go on with what a crash, a lost job or a silent Stripe has left: calls, then events.

    What cannot be recorded fails this job, once everything else has had its turn.
    """
    del slot
    if not has_stripe():
        return
    failed = each_in_turn([partial(_send_transfers, SWEEP_FOR)])
    with database.begin() as session:
        due, unknown = due_calls(session, now()), unknown_calls(session)
        events = due_events(session, now())
    failed += each_in_turn(
        [
            *(partial(_make_call, call_id) for call_id in due),
            *(partial(_look_for, call_id) for call_id in unknown),
            *(partial(apply_stripe_event, str(event_id)) for event_id in events),
        ]
    )
    if failed:
        raise failed[0]


def _look_for(call_id: UUID) -> None:
    resolve_unknown(database.begin, gateway(), call_id, now=now, tell=tell)


def each_in_turn(turns: Sequence[Callable[[], object]]) -> list[Exception]:
    """Let everything have its turn, whatever comes of the others; what could not be recorded.

    What Stripe does not answer is no failure, as it is asked again. A lost connection ends it:
    nothing after it could be recorded either.
    """
    failed: list[Exception] = []
    for turn in turns:
        try:
            turn()
        except (GatewayUnknown, GatewayRefused) as silent:
            log.warning("stripe.silent", reason=str(silent))
        except GatewayKeyRejected:
            # Nobody could do anything with it.
            raise
        except FAULTS as refused:
            # Not with its variables: rows of a transaction that failed cannot be printed.
            log.error("stripe.not_recorded", reason=str(refused))
            failed.append(refused)
    return failed


@job(queue="money", time_limit_s=1800)
def catch_up_stripe(slot: str) -> None:
    """Keep the events of the last hours whose webhooks never came."""
    if not has_stripe():
        return
    since = datetime.fromisoformat(slot) - OVERLAP
    until = now() + LIST_FOR
    with database.begin() as session:
        # None of them is listed from later than it was listed last: we may have been down for long.
        places: dict[str | None, datetime | None] = {None: own_events_listed_at(session)}
        places.update(accounts_to_watch(session, since=now() - WATCH_FOR).items())
    failed = each_in_turn(
        [
            partial(
                _catch_up, min(since, listed_at - OVERLAP) if listed_at else since, until, place
            )
            for place, listed_at in places.items()
        ]
    )
    if failed:
        raise failed[0]


def _catch_up(since: datetime, until: datetime, account_id: str | None) -> None:
    if now() >= until:
        return
    for event_id in catch_up(
        database.begin,
        gateway(),
        since=since,
        now=now,
        account_id=account_id,
        expect_livemode=is_live(),
    ):
        with database.begin() as session:
            emit(session, Event.STRIPE_EVENT_RECEIVED, event_id, at=now())


@job(queue="money")
def watch_budgets(slot: str) -> None:
    """Tell labs whose projects run out of money."""
    last_s = in_force.settings.budget_low_s
    with database.begin() as session:
        warn_of_budgets(session, last_s=last_s, at=datetime.fromisoformat(slot))


@job(queue="money")
def chase_invoices(slot: str) -> None:
    """Tell each lab once whose invoice was not paid in its time."""
    with database.begin() as session:
        at = datetime.fromisoformat(slot)
        for funding_id in open_past_due(session, at):
            tell(session, record_overdue(session, funding_id, at))


@job(queue="money", time_limit_s=1800)
def review_held_payouts(slot: str) -> None:
    """Look again at every payout that waits: its reason may be gone, or its time be over.

    Whom Stripe still asks for something is looked up there first, since its word of a change may
    have been lost, and events of accounts cannot be listed afterwards.
    """
    del slot
    failed = []
    last: UUID | None = None
    while True:
        with database.begin() as session:
            waiting = held_payouts(session, after=last, limit=REVIEW_AT_ONCE)
            unready = owners_unready(session, waiting) if has_stripe() else []
        failed += each_in_turn(
            [
                *(partial(_refresh, owner_id) for owner_id in unready),
                *(partial(_review, payout_id) for payout_id in waiting),
            ]
        )
        if len(waiting) < REVIEW_AT_ONCE:
            break
        last = waiting[-1]
    if failed:
        raise failed[0]


def _refresh(owner_id: UUID) -> None:
    refresh_payee(database.begin, gateway(), owner_id, now=now, tell=tell, policy=hold_policy())


def _review(payout_id: UUID) -> None:
    with database.begin() as session:
        tell(session, review_payout(session, payout_id, at=now(), policy=hold_policy()))


@job(queue="money")
def write_off_recoveries(slot: str) -> None:
    """Give up what decided cases could not get back for half a year."""
    del slot
    with database.begin() as session:
        for one in write_off_old(session, at=now()):
            log.info("recovery.written_off", recovery_id=str(one.id), minor=one.written_off_minor)


@job(queue="money", max_retries=6)
def reconcile_stripe(slot: str) -> None:
    """Compare what the books say lies at Stripe with what Stripe says, every night.

    Money moves meanwhile, and Stripe tells of it a little later: a difference is looked at again a
    few times, and what stays fails this job, so that ops have it among the jobs that died.
    """
    del slot
    if not has_stripe():
        return
    with database.begin() as session:
        before = at_stripe(session)
    seen = gateway().balance()
    with database.begin() as session:
        after = at_stripe(session)
    if found := differences(before, after, seen):
        log.warning("stripe.differs", found=found)
        raise StripeDiffers(found)
    log.info("stripe.reconciled", books=after)
