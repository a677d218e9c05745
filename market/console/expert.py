"""Pages of an expert: offers with binding terms, work and verdicts, and every minute's pay."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.console.forms import Form, go
from market.console.frame import back_to, page
from market.console.visitors import EXPERT, my_id
from market.db import PLATFORM, Json, database, now
from market.earnings.models import Earning
from market.earnings.queries import payout_states
from market.experiments.queries import guidances_for
from market.experiments.rules import Guidance, shown_payload
from market.experts.models import Expert
from market.explanations.queries import work_for
from market.heartbeats.actions import beat
from market.http import NotFound, page_of, read_id, wire_id
from market.offers.actions import accept_offer, decline_offer
from market.offers.models import Offer
from market.offers.queries import open_offers
from market.offers.rules import REASONS, Terms
from market.past_rates.queries import past_rates, price_of
from market.past_rates.rules import rates_told
from market.repairs.queries import skip_budget
from market.returns.queries import asked_of
from market.reviews.models import Review
from market.submissions.models import Submission
from market.tasks.models import Task
from market.treasury.queries import holds_of, what_is_owed
from market.verdicts.models import Verdict
from market.verdicts.queries import lab_rejections
from market.verdicts.rules import rejections_told
from market.wages.queries import effective_wage, own_wages
from market.work.actions import end_session, pause_session, resume_session, start_session
from market.work.models import TimeEntry, WorkSession
from market.work.queries import figures, open_session
from market.work.rules import GAP_S, seconds_between
from payouts.conversions import changes_in_words
from payouts.models import Payout
from payouts.payees import pay_blocks, payee_of, payee_state

PAGE = 50
HELD = ("accepted", "active", "grace")


def zone_of(session: Session, expert_id: UUID) -> str:
    """The time zone in which an expert reads the clock."""
    found = session.scalar(select(Expert.timezone).where(Expert.id == expert_id))
    return found or "UTC"


@dataclass(frozen=True, slots=True)
class OfferCard:
    """An offer as its expert reads it: the terms are those of the offer, never the project's own,
    and the payload is the task's as far as it is shown with this offer.

    Units: `counted_s` in seconds, of the sessions that have ended.
    """

    offer: Offer
    terms: Terms
    task: Task | None
    counted_s: int
    payload: Json
    given: Guidance


def cards_of(session: Session, offers: list[Offer]) -> list[OfferCard]:
    """Offers as their expert reads them."""
    tasks = {
        task.id: task
        for task in session.scalars(select(Task).where(Task.id.in_([o.task_id for o in offers])))
    }
    counted = dict(
        session.execute(
            select(WorkSession.offer_id, func.sum(WorkSession.paid_s))
            .where(WorkSession.offer_id.in_([o.id for o in offers]))
            .group_by(WorkSession.offer_id)
        ).all()
    )
    found = [tasks.get(offer.task_id) for offer in offers]
    payloads = [{} if task is None else task.payload for task in found]
    terms = [offer.terms for offer in offers]
    given = guidances_for(session, list(zip(terms, payloads, strict=True)))
    return [
        OfferCard(
            offer,
            Terms(**offer.terms),
            task,
            int(counted.get(offer.id, 0)),
            shown_payload(payload, guidance),
            guidance,
        )
        for offer, task, payload, guidance in zip(offers, found, payloads, given, strict=True)
    ]


@get("/", guards=EXPERT, sync_to_thread=True)
def get_offers(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """What the expert may accept now, on terms that then stay as they are."""
    del said
    me = my_id(request)
    # As the platform, since it counts work that the expert may not see.
    with database.begin(PLATFORM) as session:
        fitting = work_for(session, me, at=now())
        offered = session.execute(
            select(Offer.project_id, Offer.organisation_id)
            .where(Offer.expert_id == me, Offer.state == "pending")
            .distinct()
        ).all()
        wages = {one.project_id: effective_wage(session, one.project_id) for one in offered}
        before = {
            one.id: rates_told(price_of(one), past_rates(session, one, at=now()), one.currency)
            for one in open_offers(session, me, at=now())
        }
        rejections = {
            lab: rejections_told(lab_rejections(session, lab))
            for lab in {one.organisation_id for one in offered}
        }
    with database.begin() as session:
        skips = skip_budget(session, me, at=now())
        waiting = open_offers(session, me, at=now())
        held = list(
            session.scalars(
                select(Offer)
                .where(Offer.expert_id == me, Offer.state.in_(HELD))
                .order_by(Offer.lease_until)
            )
        )
        return page(
            request,
            "expert/offers.html",
            skips=skips,
            asked=asked_of(session, [one.id for one in held]),
            wages=wages,
            before=before,
            rejections=rejections,
            pay_blocks=pay_blocks(session, me),
            waiting=cards_of(session, waiting),
            held=cards_of(session, held),
            fitting=fitting,
            running=open_session(session, me),
            reasons_to_decline=REASONS,
            zone=zone_of(session, me),
        )


@post("/offers/{offer_id:str}/accept", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_accept(request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form) -> Redirect:
    """Accept an offer on the terms shown."""
    del data
    me = my_id(request)
    # As the platform, because the seat and the task move along with the expert's own offer.
    with database.begin(PLATFORM) as session:
        accept_offer(session, read_id("ofr", offer_id), expert_id=me, at=now())
    return back_to("/console/expert", "accepted")


@post("/offers/{offer_id:str}/decline", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_decline(request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form) -> Redirect:
    """Decline an offer; it costs nothing."""
    me = my_id(request)
    # As the platform, because the seat is let go and the reservation of its money ends.
    with database.begin(PLATFORM) as session:
        decline_offer(
            session,
            read_id("ofr", offer_id),
            expert_id=me,
            reason=data.get("reason", ""),
            at=now(),
        )
    return back_to("/console/expert", "declined")


@get("/work", guards=EXPERT, sync_to_thread=True)
def get_work(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """The running clock, and what became of what was sent in."""
    del said
    me = my_id(request)
    with database.begin() as session:
        at = now()
        running = open_session(session, me)
        shown = figures(running) if running is not None else None
        running_task = session.get(Task, running.task_id) if running is not None else None
        recorded = session.execute(
            select(TimeEntry, Task.external_id)
            .join(Offer, Offer.id == TimeEntry.offer_id)
            .join(Task, Task.id == Offer.task_id)
            .where(TimeEntry.expert_id == me)
            .order_by(TimeEntry.id.desc())
            .limit(PAGE)
        ).all()
        sent = session.execute(
            select(Submission, Task.external_id, Verdict)
            .join(Task, Task.id == Submission.task_id)
            .outerjoin(Verdict, Verdict.submission_id == Submission.id)
            .where(Submission.expert_id == me, Submission.submitted_at.is_not(None))
            .order_by(Submission.id.desc())
            .limit(PAGE)
        ).all()
        notes: dict[UUID, list[Review]] = {}
        for review in session.scalars(
            select(Review).where(
                Review.submission_id.in_([row[0].id for row in sent]),
                Review.voted_at.is_not(None),
            )
        ):
            notes.setdefault(review.submission_id, []).append(review)
        return page(
            request,
            "expert/work.html",
            running=running,
            shown=shown,
            running_task=running_task,
            unproven_s=unproven_s(running, at),
            recorded=recorded,
            sent=sent,
            notes=notes,
            zone=zone_of(session, me),
        )


@post("/offers/{offer_id:str}/start", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_start(request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form) -> Redirect:
    """Start the clock on an accepted offer."""
    del data
    me = my_id(request)
    # As the platform, because the offer moves with the session and is not the expert's to write.
    with database.begin(PLATFORM) as session:
        start_session(session, read_id("ofr", offer_id), expert_id=me, at=now())
    return back_to(f"/console/expert/offers/{offer_id}", "started")


@post("/sessions/{session_id:str}/{move:str}", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_session(
    request: Request[Any, Any, Any],
    session_id: FromPath[str],
    move: FromPath[str],
    data: Form,
) -> Redirect:
    """Pause, resume or stop the clock, or prove that somebody is at work."""
    me = my_id(request)
    found_id = read_id("ses", session_id)
    # As the platform, because going on after a pause moves the offer's deadline.
    with database.begin(PLATFORM) as session:
        if move == "pause":
            pause_session(session, found_id, expert_id=me, at=now())
        elif move == "resume":
            resume_session(session, found_id, expert_id=me, at=now())
        elif move == "stop":
            end_session(session, found_id, expert_id=me, at=now())
        elif move == "beat":
            running = open_session(session, me)
            seq = running.last_seq + 1 if running is not None else 1
            is_active = data.get("is_active") == "true"
            beat(session, found_id, expert_id=me, seq=seq, is_active=is_active, at=now())
        else:
            raise NotFound("work_session", move[:64])
    here = _page_of_form(data)
    return back_to(here, "ended") if move == "stop" else go(here)


def _page_of_form(data: Form) -> str:
    """Where the clock's buttons lead back to: the offer's page that they stood on, or the list."""
    offer_id = data.get("offer", "")
    if not offer_id:
        return "/console/expert/work"
    return f"/console/expert/offers/{wire_id('ofr', read_id('ofr', offer_id))}"


def unproven_s(running: WorkSession | None, at: datetime) -> int:
    """Seconds since the last proof, while the next can still count them."""
    if running is None or running.state != "running":
        return 0
    since = seconds_between(running.last_beat_at, at)
    return since if 0 <= since <= GAP_S else 0


@get("/earnings", guards=EXPERT, sync_to_thread=True)
def get_earnings(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """Every line of pay: its minutes, its rate, and where the money is now."""
    me = my_id(request)
    # As the platform, since what tests took is read beside the work; only its own time is.
    with database.begin(PLATFORM) as session:
        wages = own_wages(session, me)
    with database.begin() as session:
        rows, following = page_of(
            session,
            select(Earning).where(Earning.expert_id == me),
            Earning.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"earnings {me}",
        )
        payouts = session.scalars(
            select(Payout).where(Payout.owner_id == me).order_by(Payout.id.desc()).limit(12)
        ).all()
        tasks = dict(
            session.execute(
                select(Offer.id, Task.external_id)
                .join(Task, Task.id == Offer.task_id)
                .where(Offer.id.in_([line.offer_id for line in rows]))
            ).all()
        )
        return page(
            request,
            "expert/earnings.html",
            rows=rows,
            states=payout_states(session, rows),
            following=following,
            payouts=payouts,
            holds=holds_of(session, [one.id for one in payouts]),
            changed=changes_in_words(session, [one.id for one in payouts]),
            purses=_purses(session, me),
            wages=wages,
            payee=payee_state(session, me) if payee_of(session, me) is not None else None,
            tasks=tasks,
            zone=zone_of(session, me),
        )


@dataclass(frozen=True, slots=True)
class Purse:
    """Where an expert's money of one currency is.

    Units: minor units of `currency`; seconds.
    """

    currency: str
    earned_minor: int
    seconds: int
    waiting_minor: int
    in_review_minor: int
    on_its_way_minor: int
    arrived_minor: int


ARRIVED = ("paid",)
OVER = ("paid", "cancelled", "reversed", "returned", "failed")


def _purses(session: Session, expert_id: UUID) -> list[Purse]:
    earned = session.execute(
        select(
            Earning.currency,
            func.sum(Earning.pay_minor),
            func.sum(Earning.seconds),
        )
        .where(Earning.expert_id == expert_id)
        .group_by(Earning.currency)
        .order_by(Earning.currency)
    ).all()
    sent: dict[tuple[str, str], int] = {
        (currency, state): int(amount)
        for currency, state, amount in session.execute(
            select(Payout.currency, Payout.state, func.sum(Payout.amount_minor))
            .where(Payout.owner_id == expert_id)
            .group_by(Payout.currency, Payout.state)
        )
    }
    owed = {one: (free, held) for one, free, held in what_is_owed(session, expert_id)}
    found = []
    for currency, pay_minor, seconds in earned:
        of_currency = {state: amount for (one, state), amount in sent.items() if one == currency}
        free, in_review_minor = owed.get(currency, (None, 0))
        found.append(
            Purse(
                currency=currency,
                earned_minor=int(pay_minor),
                seconds=int(seconds),
                waiting_minor=free.available_minor if free is not None else 0,
                in_review_minor=in_review_minor,
                on_its_way_minor=sum(a for s, a in of_currency.items() if s not in OVER),
                arrived_minor=sum(a for s, a in of_currency.items() if s in ARRIVED),
            )
        )
    return found


ROUTES: list[HTTPRouteHandler] = [
    get_offers,
    post_accept,
    post_decline,
    get_work,
    post_start,
    post_session,
    get_earnings,
]
