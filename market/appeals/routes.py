"""Appeals, over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.appeals.actions import (
    assign_appeal,
    decide_appeal,
    file_appeal,
    unreject_submission,
)
from market.appeals.models import Appeal
from market.appeals.queries import appeal, appeals
from market.appeals.rules import AppealUnfit
from market.auth import Part, Principal, ScopeMissing, tell_of
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
)
from market.submissions.queries import submission

PREFIXES = {
    "sub": "submission",
    "mea": "measure",
    "qua": "qualification",
    "tie": "tier",
    "fix": "fix",
}
Text = Annotated[str, Meta(max_length=10_000)]
Evidence = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=50)
]


class AppealIn(Wire):
    """What is appealed (`sub_`, `fix_`, `mea_`, `qua_` or `tie_`), and what is wrong with it."""

    subject: str
    note: Text
    evidence: Evidence = ()


class DecisionIn(Wire):
    """What becomes of an appeal, and why; `share` per cent of a submission with overturn_partly."""

    outcome: Literal["uphold", "overturn", "overturn_partly"]
    decision: Text
    share: int | None = None


class UnrejectIn(Wire):
    """Why a rejection is taken back."""

    reason_code: Annotated[str, Meta(max_length=100)]


class AppealOut(Wire):
    """An appeal with its clock, its decision and why."""

    id: str
    subject: str
    state: str
    note: str
    evidence: list[str]
    filed_at: datetime
    due_at: datetime
    assigned_at: datetime | None
    decided_at: datetime | None
    decision: str | None
    share: int | None


class UnrejectedOut(Wire):
    """A submission whose rejection was taken back."""

    submission_id: str
    state: str


@post("/appeals", scope="appeal:write", status_code=HTTP_201_CREATED, tags=["Appeals"])
def post_appeal(data: JSONBody[AppealIn], principal: NamedDependency[Principal]) -> AppealOut:
    """Appeal a verdict, a fix of your work, a step of your standing, a qualification denied or
    revoked, or a step down to a lower pay tier; that does not begin before the appeal is decided.
    """
    prefix = data.subject.split("_", 1)[0]
    if prefix not in PREFIXES:
        raise AppealUnfit(
            "subject", "the id of a submission, a fix, a measure, a qualification or a pay tier"
        )
    # As the platform, because what is appealed moves; the action takes only the caller's own.
    with database.begin(PLATFORM) as session:
        made = file_appeal(
            session,
            PREFIXES[prefix],
            read_id(prefix, data.subject),
            person_id=principal.person_id,
            note=data.note,
            evidence=data.evidence,
            at=now(),
        )
        return _out(made)


@get("/appeals", scope="appeal:read", tags=["Appeals"])
def get_appeals(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AppealOut]:
    """Appeals, newest first: your own, or all of them as ops."""
    with database.begin() as session:
        return listed(
            session,
            appeals(state=in_state),
            Appeal.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|appeals|{in_state}",
        )


@get("/appeals/{appeal_id:str}", scope="appeal:read", tags=["Appeals"])
def get_appeal(appeal_id: FromPath[str]) -> AppealOut:
    """One appeal."""
    with database.begin() as session:
        return _out(appeal(session, read_id("apl", appeal_id)))


@post(
    "/appeals/{appeal_id:str}/assign",
    scope="appeal:decide",
    status_code=HTTP_200_OK,
    tags=["Appeals"],
)
def post_appeal_assign(
    appeal_id: FromPath[str], principal: NamedDependency[Principal]
) -> AppealOut:
    """Take an appeal on, if you had no part in what is appealed."""
    with database.begin() as session:
        row = assign_appeal(
            session, read_id("apl", appeal_id), decider_id=principal.person_id, at=now()
        )
        return _out(row)


@post(
    "/appeals/{appeal_id:str}/decide",
    scope="appeal:decide",
    status_code=HTTP_200_OK,
    tags=["Appeals"],
)
def post_appeal_decision(
    appeal_id: FromPath[str], data: JSONBody[DecisionIn], principal: NamedDependency[Principal]
) -> AppealOut:
    """Decide an appeal that you took on."""
    with database.begin() as session:
        row = decide_appeal(
            session,
            read_id("apl", appeal_id),
            data.outcome,
            decider_id=principal.person_id,
            decision=data.decision,
            share=data.share,
            at=now(),
        )
        return _out(row)


@post(
    "/submissions/{submission_id:str}/unreject",
    scope="work:read",
    status_code=HTTP_200_OK,
    tags=["Appeals"],
)
def post_unreject(
    submission_id: FromPath[str], data: JSONBody[UnrejectIn], principal: NamedDependency[Principal]
) -> UnrejectedOut:
    """Take a rejection back, as its lab or as ops, at any time."""
    if principal.part not in (Part.LAB, Part.OPS):
        raise ScopeMissing("submission:unreject", principal.part)
    found = read_id("sub", submission_id)
    with database.begin() as session:
        # Whether the caller may see it at all; the correction is the platform's.
        submission(session, found)
    with database.begin(PLATFORM) as session:
        row = unreject_submission(
            session,
            found,
            reason_code=data.reason_code,
            at=now(),
            actor_id=principal.person_id,
        )
        return UnrejectedOut(submission_id=submission_id, state=row.state)


def _out(row: Appeal) -> AppealOut:
    tell_of(row.person_id)
    prefix = next(short for short, kind in PREFIXES.items() if kind == row.kind)
    return AppealOut(
        id=wire_id("apl", row.id),
        subject=wire_id(prefix, row.subject_id),
        state=row.state,
        note=row.note,
        evidence=row.evidence,
        filed_at=row.filed_at,
        due_at=row.due_at,
        assigned_at=row.assigned_at,
        decided_at=row.decided_at,
        decision=row.decision,
        share=row.share,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_appeal,
    get_appeals,
    get_appeal,
    post_appeal_assign,
    post_appeal_decision,
    post_unreject,
]
