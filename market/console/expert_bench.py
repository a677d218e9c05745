"""One offer's page: its terms, and once it is accepted the workbench of whoever works on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect, Template
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from market.attempts.actions import claim_stump, make_attempt, submit_attempt
from market.attempts.models import Attempt
from market.attempts.queries import attempts, beside
from market.attempts.rules import HANDED_IN, AttemptNotFound
from market.console.expert import cards_of, unproven_s, zone_of
from market.console.forms import REFUSALS, Form, field, said_no, tried
from market.console.frame import Notice, back_to, page
from market.console.visitors import EXPERT, my_id
from market.db import PLATFORM, Json, database, now, run_as
from market.http import NotFound, read_id
from market.offers.models import Offer
from market.offers.queries import own_offer
from market.offers.rules import HELD, REASONS
from market.projects.models import Project
from market.repairs.queries import skip_budget
from market.returns.queries import asked_of
from market.reviews.models import Review
from market.screeners.queries import newest_screener
from market.stumps.queries import evidence
from market.submissions.actions import give_back, save_draft, submit_work
from market.submissions.models import Submission
from market.submissions.queries import passed_draft
from market.submissions.rules import OPEN
from market.votes.queries import votes
from market.work.queries import figures, open_session

SHOWN = 20
"""Attempts that the workbench shows; the API lists all."""

FIELDS = ("answer", "reasoning")
"""Fields of the work that the workbench has a box for."""

OURS = ("instructions", "rubric")
"""Fields of a task that the workbench shows in a place of their own."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One question to the target model, with what it and the others of the panel answered."""

    attempt: Attempt
    outputs: list[str]
    panel: list["Tried"]

    @property
    def is_answered(self) -> bool:
        """Whether no model is still answering."""
        return all(one.attempt.state not in ("drafted", "sent") for one in (self, *self.panel))


def _tried(session: Session, offer_id: UUID) -> list[Tried]:
    rows = list(session.scalars(attempts(offer_id).order_by(Attempt.id.desc()).limit(SHOWN)))
    others = {row.id: beside(session, row) for row in rows}
    said = evidence(session, [one.id for row in rows for one in (row, *others[row.id])])

    def told(row: Attempt) -> Tried:
        panel = [told(one) for one in others.get(row.id, [])]
        return Tried(row, [one.output for one in said[row.id]], panel)

    return [told(row) for row in rows]


@dataclass(frozen=True, slots=True)
class OfProject:
    """What an expert at work is told of its project: whether there is a model to ask, what becomes
    of a draft that is handed in unedited, what a screening pays, if it screens, and the draft that
    somebody left of this work, if it is passed on.

    Units: minor units.
    """

    has_model: bool = False
    unedited_drafts: str = "allowed"
    screening: int | None = None
    left: Json | None = None


def _of_project(session: Session, offer: Offer) -> OfProject:
    # As the platform, because a project is its lab's to see; only this is told of it.
    with run_as(session, PLATFORM):
        wanted = select(Project.target_model_id, Project.unedited_drafts)
        model, unedited = session.execute(wanted.where(Project.id == offer.project_id)).one()
        screener = newest_screener(session, offer.project_id, by=offer.created_at)
        pays = screener.pay_minor if screener is not None and screener.codes else None
        return OfProject(model is not None, unedited, pays, passed_draft(session, offer))


def _remarks(session: Session, handed: Submission | None) -> list[Review]:
    """What reviewers said of work that came back."""
    if handed is None or handed.state != "rework_requested":
        return []
    said = votes(session, [handed.id])[handed.id]
    return [one for one in said if one.round == handed.round and one.note]


def _bench(
    request: Request[Any, Any, Any],
    offer_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me, at = my_id(request), now()
    with database.begin() as session:
        offer = own_offer(session, offer_id, me)
        card = cards_of(session, [offer])[0]
        handed = session.scalar(select(Submission).where(Submission.offer_id == offer_id))
        is_held = offer.state in HELD and offer.state != "completed"
        running = open_session(session, me)
        is_here = running is not None and running.offer_id == offer_id
        tried = _tried(session, offer_id)
        of_project = _of_project(session, offer) if is_held else OfProject()
        is_open = handed is not None and handed.state in OPEN
        draft: Json = handed.payload if handed is not None and is_open else {}
        return page(
            request,
            "expert/bench.html",
            status=status,
            notice=notice,
            card=card,
            task=card.task if offer.state in ("pending", *HELD) else None,
            others=_others(card.payload),
            is_held=is_held,
            running=running if is_here else None,
            runs_elsewhere=running is not None and not is_here,
            shown=figures(running) if running is not None and is_here else None,
            unproven_s=unproven_s(running, at) if is_here else 0,
            has_model=of_project.has_model,
            unedited_drafts=of_project.unedited_drafts,
            screening=of_project.screening,
            left=of_project.left,
            tried=tried,
            provable=[one.attempt for one in tried if one.attempt.state in HANDED_IN],
            handed=handed,
            asked_back=asked_of(session, [offer_id]).get(offer_id) if is_held else None,
            skips=skip_budget(session, me, at=at) if is_held else None,
            remarks=_remarks(session, handed),
            typed=typed or {},
            # What was tried with drafts begins with one; what was typed since stands before it.
            answer=_kept(typed, draft or {"answer": card.given.draft or ""}, "answer"),
            reasoning=_kept(typed, draft, "reasoning"),
            reasons_to_decline=REASONS,
            zone=zone_of(session, me),
        )


def _kept(typed: Mapping[str, str] | None, draft: Json, name: str) -> str:
    """What stands in a field: what was just typed, or what the draft keeps."""
    if typed is not None and name in typed:
        return typed[name]
    return str(draft.get(name, ""))


def _others(payload: Json) -> dict[str, object]:
    return {name: value for name, value in payload.items() if name not in OURS}


@get("/offers/{offer_id:str}", guards=EXPERT, sync_to_thread=True)
def get_offer(request: Request[Any, Any, Any], offer_id: FromPath[str]) -> Template:
    """One offer: what binds, and where its work is done once it is accepted."""
    return _bench(request, read_id("ofr", offer_id))


@post("/offers/{offer_id:str}/attempts", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_attempt(
    request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Put a question to the target model."""
    found, here = read_id("ofr", offer_id), f"/console/expert/offers/{offer_id}"

    def act() -> str:
        # As the platform, because the target model is the lab's and not the expert's to see.
        with database.begin(PLATFORM) as session:
            make_attempt(
                session,
                found,
                expert_id=my_id(request),
                prompt=field(data, "prompt"),
                reference=field(data, "reference"),
                at=now(),
            )
        return f"{here}?said=asked#attempts"

    return tried(data, act, partial(_bench, request, found, typed=data))


@post("/attempts/{attempt_id:str}/claim", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_claim(request: Request[Any, Any, Any], attempt_id: FromPath[str], data: Form) -> Redirect:
    """Say whether the model was defeated."""
    is_claim = data.get("claims") == "yes"
    # As the platform, which keeps the automatic judge's reading beside the claim.
    with database.begin(PLATFORM) as session:
        row = claim_stump(
            session,
            read_id("att", attempt_id),
            expert_id=my_id(request),
            claims_stump=is_claim,
            at=now(),
        )
        offer_id = row.offer_id
    return back_to(
        f"/console/expert/offers/ofr_{offer_id.hex}", "claimed" if is_claim else "conceded"
    )


def _payload(data: Mapping[str, str]) -> Json:
    """What is handed in: the fields that have something in them."""
    return {name: field(data, name) for name in FIELDS if field(data, name)}


@post("/offers/{offer_id:str}/draft", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_draft(
    request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Keep unfinished work."""
    found = read_id("ofr", offer_id)
    try:
        with database.begin() as session:
            save_draft(session, found, expert_id=my_id(request), payload=_payload(data), at=now())
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _bench(request, found, status=status, notice=notice, typed=data)
    return back_to(f"/console/expert/offers/{offer_id}", "draft")


@post("/offers/{offer_id:str}/begin", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_begin(request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form) -> Redirect:
    """Keep what somebody left of this work as the draft to go on from."""
    del data
    found, me = read_id("ofr", offer_id), my_id(request)
    # As the platform, because what was left is another's.
    with database.begin(PLATFORM) as session:
        left = passed_draft(session, own_offer(session, found, me))
        if left is None:
            # It was there when the page was made: the lab has just stopped passing drafts on.
            raise NotFound("draft", offer_id)
        # What was written since, in another window, stays.
        if not session.scalar(select(exists().where(Submission.offer_id == found))):
            kept = {name: left[name] for name in FIELDS if isinstance(left.get(name), str)}
            save_draft(session, found, expert_id=me, payload=kept, at=now())
    return back_to(f"/console/expert/offers/{offer_id}", "begun")


@post("/offers/{offer_id:str}/submission", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_submission(
    request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Hand in; the clock stops, and reviews follow."""
    found, me = read_id("ofr", offer_id), my_id(request)
    attempt = field(data, "attempt")

    def act() -> str:
        # As the platform, because the offer, its slot and its task move with the submission.
        with database.begin(PLATFORM) as session:
            if attempt:
                row = submit_attempt(
                    session,
                    found,
                    read_id("att", attempt),
                    expert_id=me,
                    payload=_payload(data),
                    at=now(),
                )
            else:
                row = submit_work(session, found, expert_id=me, payload=_payload(data), at=now())
            return f"/console/expert/submissions/sub_{row.id.hex}?said=handed_in"

    return tried(data, act, partial(_bench, request, found, typed=data))


@post("/offers/{offer_id:str}/release", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_release(request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form) -> Redirect:
    """Give a task back; minutes that were worked are paid."""
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        give_back(
            session,
            read_id("ofr", offer_id),
            expert_id=my_id(request),
            reason=data.get("reason", ""),
            note=field(data, "note") or None,
            at=now(),
        )
    return back_to("/console/expert", "returned")


@get("/attempts/{attempt_id:str}", guards=EXPERT, sync_to_thread=True)
def get_attempt(request: Request[Any, Any, Any], attempt_id: FromPath[str]) -> Template:
    """One question with the model's answers and the digests that prove them."""
    found = read_id("att", attempt_id)
    with database.begin() as session:
        row = session.get(Attempt, found)
        if row is None or row.expert_id != my_id(request):
            raise AttemptNotFound(found)
        return page(
            request,
            "expert/attempt.html",
            attempt=row,
            responses=evidence(session, [row.id])[row.id],
            zone=zone_of(session, row.expert_id),
        )


ROUTES: list[HTTPRouteHandler] = [
    get_offer,
    post_attempt,
    get_attempt,
    post_claim,
    post_draft,
    post_begin,
    post_submission,
    post_release,
]
