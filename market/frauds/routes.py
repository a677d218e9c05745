"""Cases of fraud, over HTTP: ops open and decide, the authors of the work answer and appeal."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.frauds.actions import (
    answer_fraud_case,
    appeal_fraud_case,
    decide_fraud_appeal,
    decide_fraud_case,
    open_fraud_case,
)
from market.frauds.models import FraudCase
from market.frauds.queries import fraud_case, fraud_cases
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
from market.projects.routes import MoneyOut

Text = Annotated[str, Meta(max_length=10_000)]
Evidence = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=50)
]


class FraudCaseIn(Wire):
    """Which accepted work is a fraud, why, and what shows it."""

    submission_id: str
    reason: Text
    evidence: Evidence = ()


class SaidIn(Wire):
    """What the author of the work says, to a case or against its decision."""

    text: Text


class FraudDecisionIn(Wire):
    """Whether the case is upheld, and by which facts and rule."""

    uphold: bool
    decision: Text


class FraudAppealDecisionIn(Wire):
    """Whether the decision on the case is overturned, and why."""

    overturn: bool
    decision: Text


class FraudCaseOut(Wire):
    """A case with its hearing, its decision, its appeal and what it took back."""

    id: str
    submission_id: str
    state: str
    reason: str
    evidence: list[str]
    opened_at: datetime
    answer_by: datetime
    answer: str | None
    decision: str | None
    decided_at: datetime | None
    taken_back: MoneyOut
    appeal: str | None
    appealed_at: datetime | None
    appeal_due_at: datetime | None
    final_at: datetime | None
    final_note: str | None


@post("/fraud-cases", scope="pay:write", status_code=HTTP_201_CREATED, tags=["Fraud cases"])
def post_fraud_case(
    data: JSONBody[FraudCaseIn], principal: NamedDependency[Principal]
) -> FraudCaseOut:
    """Say that accepted work is a fraud; nothing changes until it is heard and decided."""
    with database.begin() as session:
        opened = open_fraud_case(
            session,
            read_id("sub", data.submission_id),
            reason=data.reason,
            evidence=data.evidence,
            by=principal.person_id,
            at=now(),
        )
        return _out(opened)


@get("/fraud-cases", scope="earning:read", tags=["Fraud cases"])
def get_fraud_cases(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[FraudCaseOut]:
    """Cases about your work, newest first; all of them as ops."""
    with database.begin() as session:
        return listed(
            session,
            fraud_cases(state=in_state),
            FraudCase.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|fraud_cases|{in_state}",
        )


@get("/fraud-cases/{case_id:str}", scope="earning:read", tags=["Fraud cases"])
def get_fraud_case(case_id: FromPath[str]) -> FraudCaseOut:
    """One case."""
    with database.begin() as session:
        return _out(fraud_case(session, read_id("frd", case_id)))


@post(
    "/fraud-cases/{case_id:str}/answer",
    scope="appeal:write",
    status_code=HTTP_200_OK,
    tags=["Fraud cases"],
)
def post_fraud_answer(case_id: FromPath[str], data: JSONBody[SaidIn]) -> FraudCaseOut:
    """Say your side; it is read before anything is decided."""
    with database.begin() as session:
        # Read as the expert first: somebody else's case is not there.
        wanted = fraud_case(session, read_id("frd", case_id)).id
    with database.begin(PLATFORM) as session:
        return _out(answer_fraud_case(session, wanted, text=data.text, at=now()))


@post(
    "/fraud-cases/{case_id:str}/decision",
    scope="pay:write",
    status_code=HTTP_200_OK,
    tags=["Fraud cases"],
)
def post_fraud_decision(
    case_id: FromPath[str], data: JSONBody[FraudDecisionIn], principal: NamedDependency[Principal]
) -> FraudCaseOut:
    """Decide a case that another person opened; upheld, the work is void and its pay owed back."""
    with database.begin() as session:
        decided = decide_fraud_case(
            session,
            read_id("frd", case_id),
            uphold=data.uphold,
            decision=data.decision,
            by=principal.person_id,
            at=now(),
        )
        return _out(decided)


@post(
    "/fraud-cases/{case_id:str}/appeal",
    scope="appeal:write",
    status_code=HTTP_200_OK,
    tags=["Fraud cases"],
)
def post_fraud_appeal(
    case_id: FromPath[str], data: JSONBody[SaidIn], principal: NamedDependency[Principal]
) -> FraudCaseOut:
    """Appeal a case that was decided against you; a third person looks at it within a week."""
    with database.begin() as session:
        wanted = fraud_case(session, read_id("frd", case_id)).id
    with database.begin(PLATFORM) as session:
        appealed = appeal_fraud_case(
            session, wanted, person_id=principal.person_id, note=data.text, at=now()
        )
        return _out(appealed)


@post(
    "/fraud-cases/{case_id:str}/appeal-decision",
    scope="appeal:decide",
    status_code=HTTP_200_OK,
    tags=["Fraud cases"],
)
def post_fraud_appeal_decision(
    case_id: FromPath[str],
    data: JSONBody[FraudAppealDecisionIn],
    principal: NamedDependency[Principal],
) -> FraudCaseOut:
    """Decide an appeal, if you neither opened nor decided the case."""
    with database.begin() as session:
        decided = decide_fraud_appeal(
            session,
            read_id("frd", case_id),
            overturn=data.overturn,
            decision=data.decision,
            by=principal.person_id,
            at=now(),
        )
        return _out(decided)


def _out(found: FraudCase) -> FraudCaseOut:
    return FraudCaseOut(
        id=wire_id("frd", found.id),
        submission_id=wire_id("sub", found.submission_id),
        state=found.state,
        reason=found.reason,
        evidence=found.evidence,
        opened_at=found.opened_at,
        answer_by=found.answer_by,
        answer=found.answer,
        decision=found.decision,
        decided_at=found.decided_at,
        taken_back=MoneyOut(amount_minor=found.pay_minor, currency=found.currency),
        appeal=found.appeal,
        appealed_at=found.appealed_at,
        appeal_due_at=found.appeal_due_at,
        final_at=found.final_at,
        final_note=found.final_note,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_fraud_case,
    get_fraud_cases,
    get_fraud_case,
    post_fraud_answer,
    post_fraud_decision,
    post_fraud_appeal,
    post_fraud_appeal_decision,
]
