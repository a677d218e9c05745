"""Cases about pay that was wrong, over HTTP: ops open and decide, their experts read and answer."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_201_CREATED
from sqlalchemy.orm import Session

from market.auth import Principal, tell_of
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
from market.projects.routes import MoneyOut
from market.recoveries.actions import answer_case, decide_case, open_case
from market.recoveries.models import RecoveryCase
from market.recoveries.queries import case, cases, recovered


class CaseOut(Wire):
    """A claim that a line of pay was wrong; money goes back only when it is upheld.

    What comes back is taken from money still at Stripe, else from later payouts, at most half of
    each; what could not be recovered in half a year is given up.
    """

    id: str
    earning_id: str
    amount: MoneyOut
    state: str
    reason: str
    opened_at: datetime
    answer_by: datetime
    answer: str | None
    decision: str | None
    decided_at: datetime | None
    recovered: MoneyOut


class CaseIn(Wire):
    """Which line of pay was wrong, why, and what shows it."""

    earning_id: str
    reason: str


class AnswerIn(Wire):
    """What the expert says to a case."""

    text: str


class DecisionIn(Wire):
    """Whether a case is upheld, and by which facts and rule."""

    uphold: bool
    decision: str


@post("/recovery-cases", scope="pay:write", status_code=HTTP_201_CREATED, tags=["Payouts"])
def post_case(data: JSONBody[CaseIn], principal: NamedDependency[Principal]) -> CaseOut:
    """Open a case about a line of pay; no money moves by it."""
    with database.begin() as session:
        opened = open_case(
            session,
            read_id("ear", data.earning_id),
            reason=data.reason,
            by=principal.person_id,
            at=now(),
        )
        return _case_out(session, opened)


@get("/recovery-cases", scope="earning:read", tags=["Payouts"])
def get_cases(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[CaseOut]:
    """Cases about your pay, newest first."""
    with database.begin() as session:
        return listed(
            session,
            cases(state=in_state),
            RecoveryCase.id,
            lambda row: _case_out(session, row),
            limit=limit,
            cursor=cursor,
            filters=f"recovery_cases|{in_state}",
        )


@post(
    "/recovery-cases/{case_id:str}/answer", scope="payee:write", status_code=200, tags=["Payouts"]
)
def post_answer(case_id: FromPath[str], data: JSONBody[AnswerIn]) -> CaseOut:
    """Say your side; it is read before anything is decided."""
    with database.begin() as session:
        # Read as the expert first: somebody else's case is not there.
        wanted = case(session, read_id("rcv", case_id)).id
    with database.begin(PLATFORM) as session:
        return _case_out(session, answer_case(session, wanted, text=data.text, at=now()))


@post(
    "/recovery-cases/{case_id:str}/decision", scope="pay:write", status_code=200, tags=["Payouts"]
)
def post_decision(
    case_id: FromPath[str], data: JSONBody[DecisionIn], principal: NamedDependency[Principal]
) -> CaseOut:
    """Decide a case that another person opened."""
    with database.begin() as session:
        decided = decide_case(
            session,
            read_id("rcv", case_id),
            uphold=data.uphold,
            decision=data.decision,
            by=principal.person_id,
            at=now(),
        )
        return _case_out(session, decided)


def _case_out(session: Session, found: RecoveryCase) -> CaseOut:
    tell_of(found.expert_id)
    back = recovered(session, [found.id]).get(found.id)
    return CaseOut(
        id=wire_id("rcv", found.id),
        earning_id=wire_id("ear", found.earning_id),
        amount=MoneyOut(amount_minor=found.amount_minor, currency=found.currency),
        state=found.state,
        reason=found.reason,
        opened_at=found.opened_at,
        answer_by=found.answer_by,
        answer=found.answer,
        decision=found.decision,
        decided_at=found.decided_at,
        recovered=MoneyOut(
            amount_minor=back.recovered_minor if back else 0, currency=found.currency
        ),
    )


ROUTES: list[HTTPRouteHandler] = [post_case, get_cases, post_answer, post_decision]
