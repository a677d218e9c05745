"""Offers over HTTP: what an expert is offered, its answers, and why it was chosen."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Part, Principal
from market.db import PLATFORM, Json, database, now
from market.experiments.queries import guidance_for
from market.experiments.rules import Guidance, shown_payload
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    expect_version,
    get,
    listed,
    post,
    read_id,
    read_ids,
    tagged,
    wire_id,
)
from market.offers.actions import accept_offer, decline_offer, release_offer
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import offers, own_offer
from market.offers.rules import HELD, LIVE, OFFER
from market.projects.routes import MoneyOut
from market.states import StateConflict
from market.tasks.models import Task
from payouts.payees import pay_blocks

Note = Annotated[str, Meta(max_length=2000)]

ProjectFilter = Annotated[
    str | None, QueryParameter(name="project", description="Only of this project.")
]


class TermsOut(Wire):
    """What binds once the offer is accepted; it was frozen when the offer was made."""

    project_id: str
    project_name: str
    project_version: int
    round: int
    domain: str
    complexity: int
    rate_per_hour: MoneyOut
    rate_from: str
    tier: str | None
    cap_minutes: int
    expected_minutes: int
    expected_pay: MoneyOut
    most_pay: MoneyOut
    expected_week_minutes: int
    expected_week_pay: MoneyOut
    open_seats: int
    review_within_hours: int
    reviews_per_submission: int
    work_within_hours: int
    binding_at: datetime
    pay_basis: str
    deliverable_pay: MoneyOut | None
    attempt_fee: MoneyOut | None
    attempt_fees_max: int
    impact_bonus: MoneyOut | None
    weekly_cap_minutes: int | None
    overtime_after_minutes: int | None
    overtime_rate_per_hour: MoneyOut | None
    not_due_before: datetime | None
    draft_field: str | None
    passes_drafts: bool


class OfferOut(Wire):
    """An offer: its state, its terms and its deadlines."""

    id: str
    state: str
    project_id: str
    task_id: str
    expert_id: str
    run_id: str
    terms: TermsOut
    terms_digest: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    lease_until: datetime | None
    ended_at: datetime | None
    version: int


class OfferedOut(OfferOut):
    """An offer with what there is to do, while it is the expert's to take or to do: the task, the
    versions of tools to do it with, by tool, a draft to begin from, and what its lab put right
    after experts found fault with it, where there is any of these. `pay_blocks` says what still
    keeps its expert from being paid, in sentences, before it begins; nothing, when nothing does.
    """

    task: Json | None
    tools: dict[str, str]
    draft: str | None
    clarification: str | None
    pay_blocks: list[str]


class DeclineIn(Wire):
    """Why an offer is declined; no reason counts against anyone."""

    reason: str
    note: Note = ""


class OfferTransitionIn(Wire):
    """A move of an offer by its expert; declining and releasing need a reason code."""

    action: Literal["accept", "decline", "release"]
    reason_code: str = ""
    note: Note = ""


class PartOut(Wire):
    """One named part of what a pair is worth: as measured, and as the policy weighs it."""

    name: str
    unit: str
    weight: float
    measured: float
    weighed: float


class OfferExplanationOut(Wire):
    """Why this expert was chosen for this task. Prices are for ops only: they say what others
    would have brought.
    """

    offer_id: str
    value: float
    parts: list[PartOut]
    sentence: str
    probability: float
    task_price: float | None
    expert_price: float | None


@get("/offers", scope="offer:read", tags=["Offers"])
def get_offers(
    principal: NamedDependency[Principal],
    project_id: ProjectFilter = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OfferOut]:
    """Your offers, newest first; for ops, everybody's."""
    project = read_ids("prj", project_id)
    expert = None if principal.part is Part.OPS else principal.person_id
    with database.begin() as session:
        return listed(
            session,
            offers(expert_id=expert, project_id=project, state=in_state),
            Offer.id,
            offer_out,
            limit=limit,
            cursor=cursor,
            filters=f"offers {project} {in_state}",
        )


@get("/offers/{offer_id:str}", scope="offer:read", tags=["Offers"])
def get_offer(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[OfferedOut]:
    """One offer, with its task."""
    with database.begin() as session:
        found = _seen_offer(session, read_id("ofr", offer_id), principal)
        task = session.get(Task, found.task_id) if found.state in (*LIVE, *HELD) else None
        body: Json | None = None
        given = Guidance()
        if task is not None:
            given = guidance_for(session, found.terms, task.payload)
            shown = shown_payload(task.payload, given)
            body = {"domain": task.domain, "complexity": task.complexity, **shown}
        out = OfferedOut(
            **_columns(found),
            task=body,
            tools=dict(given.tools),
            draft=given.draft,
            clarification=None if task is None else task.clarification,
            pay_blocks=list(pay_blocks(session, found.expert_id)),
        )
        return tagged(out, found.version)


@post(
    "/offers/{offer_id:str}/accept", scope="offer:write", status_code=HTTP_200_OK, tags=["Offers"]
)
def post_offer_accept(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[OfferOut]:
    """Accept an offer; send the ETag of the terms that you read as If-Match."""
    return _moved(offer_id, principal, "accept", "", "")


@post(
    "/offers/{offer_id:str}/decline", scope="offer:write", status_code=HTTP_200_OK, tags=["Offers"]
)
def post_offer_decline(
    offer_id: FromPath[str], data: JSONBody[DeclineIn], principal: NamedDependency[Principal]
) -> Response[OfferOut]:
    """Decline an offer, with a reason; it costs nothing."""
    return _moved(offer_id, principal, "decline", data.reason, data.note)


@post(
    "/offers/{offer_id:str}/transitions",
    scope="offer:write",
    status_code=HTTP_200_OK,
    tags=["Offers"],
)
def post_offer_transition(
    offer_id: FromPath[str],
    data: JSONBody[OfferTransitionIn],
    principal: NamedDependency[Principal],
) -> Response[OfferOut]:
    """Accept or decline an offer, or release one on which no work has begun."""
    return _moved(offer_id, principal, data.action, data.reason_code, data.note)


@get("/offers/{offer_id:str}/explanation", scope="offer:read", tags=["Offers"])
def get_offer_explanation(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> OfferExplanationOut:
    """Why you were chosen: what the pair is worth, part by part."""
    with database.begin() as session:
        found = _seen_offer(session, read_id("ofr", offer_id), principal)
        is_ops = principal.part is Part.OPS
        return OfferExplanationOut(
            offer_id=wire_id("ofr", found.id),
            value=found.value,
            parts=[PartOut(name=name, **part) for name, part in found.parts.items()],
            sentence=found.explanation,
            probability=found.probability,
            task_price=found.task_price if is_ops else None,
            expert_price=found.expert_price if is_ops else None,
        )


def _moved(
    offer_id: str,
    principal: Principal,
    action: Literal["accept", "decline", "release"],
    reason: str,
    note: str,
) -> Response[OfferOut]:
    found_id, me, at = read_id("ofr", offer_id), principal.person_id, now()
    # An offer moves with a slot, a task and money that an expert may not see; the expert's own
    # offer is looked for by both ids.
    with database.begin(PLATFORM) as session:
        found = own_offer(session, found_id, me, locked=True)
        if action == "accept":
            # Who accepted already is told so, whatever version it names.
            if found.state == "pending":
                expect_version(found.version)
            found = accept_offer(session, found_id, expert_id=me, at=at)
        elif action == "decline":
            if found.state == "pending":
                expect_version(found.version, required=False)
            found = decline_offer(
                session, found_id, expert_id=me, reason=reason, note=note or None, at=at
            )
        else:
            # With a session open its minutes have to be counted first, which is the work's affair.
            if found.state == "active":
                raise StateConflict("offer", found.state, "release", OFFER.allowed("active"))
            found = release_offer(
                session,
                found_id,
                expert_id=me,
                reason=reason,
                note=note or None,
                owes_time=False,
                at=at,
            )
        return tagged(offer_out(found), found.version)


def _seen_offer(session: Session, offer_id: UUID, principal: Principal) -> Offer:
    if principal.part is Part.OPS:
        return any_offer(session, offer_id)
    return own_offer(session, offer_id, principal.person_id)


def offer_out(found: Offer) -> OfferOut:
    """An offer as it travels."""
    return OfferOut(**_columns(found))


def _columns(found: Offer) -> Json:
    return {
        "id": wire_id("ofr", found.id),
        "state": found.state,
        "project_id": wire_id("prj", found.project_id),
        "task_id": wire_id("tsk", found.task_id),
        "expert_id": wire_id("per", found.expert_id),
        "run_id": wire_id("mrn", found.run_id),
        "terms": _terms_out(found.terms),
        "terms_digest": found.terms_digest,
        "created_at": found.created_at,
        "expires_at": found.expires_at,
        "accepted_at": found.accepted_at,
        "lease_until": found.lease_until,
        "ended_at": found.ended_at,
        "version": found.version,
    }


def _terms_out(terms: Json) -> TermsOut:
    def money(name: str) -> MoneyOut:
        return MoneyOut(amount_minor=terms[name], currency=terms["currency"])

    def extra(name: str) -> MoneyOut | None:
        return money(name) if terms.get(name) else None

    share = terms.get("overtime_basis_points")
    weekly_cap_s, floor = terms.get("weekly_cap_s"), terms.get("not_due_before")
    return TermsOut(
        project_id=wire_id("prj", UUID(terms["project_id"])),
        project_name=terms["project_name"],
        project_version=terms["project_version"],
        round=terms["round"],
        domain=terms["domain"],
        complexity=terms["complexity"],
        rate_per_hour=money("rate_minor_per_hour"),
        rate_from=terms["rate_from"],
        tier=terms["tier"],
        cap_minutes=terms["cap_s"] // 60,
        expected_minutes=-(-terms["expected_s"] // 60),
        expected_pay=money("expected_pay_minor"),
        most_pay=money("most_pay_minor"),
        expected_week_minutes=-(-terms["expected_week_s"] // 60),
        expected_week_pay=money("expected_week_pay_minor"),
        open_seats=terms["open_seats"],
        review_within_hours=-(-terms["review_within_s"] // 3600),
        reviews_per_submission=terms["reviews_per_submission"],
        work_within_hours=terms["work_ttl_s"] // 3600,
        binding_at=datetime.fromisoformat(terms["binding_at"]),
        # Offers made before contracts knew these have none of them.
        pay_basis=terms.get("pay_basis", "hourly"),
        deliverable_pay=extra("deliverable_minor"),
        attempt_fee=extra("attempt_fee_minor"),
        attempt_fees_max=terms.get("attempt_fees_max", 0),
        impact_bonus=extra("impact_bonus_minor"),
        weekly_cap_minutes=weekly_cap_s // 60 if weekly_cap_s else None,
        overtime_after_minutes=terms["overtime_after_s"] // 60 if share else None,
        overtime_rate_per_hour=MoneyOut(
            amount_minor=-(-terms["rate_minor_per_hour"] * share // 10_000),
            currency=terms["currency"],
        )
        if share
        else None,
        not_due_before=datetime.fromisoformat(floor) if floor else None,
        draft_field=terms.get("draft_field"),
        passes_drafts=terms.get("passes_drafts", False),
    )


ROUTES: list[HTTPRouteHandler] = [
    get_offers,
    get_offer,
    post_offer_accept,
    post_offer_decline,
    post_offer_transition,
    get_offer_explanation,
]
