"""Asking target models and handing in, over HTTP."""

import base64
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_202_ACCEPTED
from sqlalchemy.orm import Session

from market.attempts.actions import claim_stump, make_attempt, submit_attempt
from market.attempts.models import Attempt, AttemptResponse
from market.attempts.queries import attempt, attempts, beside, responses
from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Cursor, Limit, Page, Wire, get, listed, post, read_id, wire_id
from market.submissions.actions import submit_work


class AttemptIn(Wire):
    """A question for the target model, and the answer that is held to be right."""

    prompt: str
    reference: str
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0


class ClaimIn(Wire):
    """Whether the model was defeated."""

    claims_stump: bool


class EvidenceOut(Wire):
    """One sample of the model's answer; the digests are SHA-256 of the bytes on the wire."""

    k: int
    output: str
    finish_reason: str | None
    latency_ms: int
    tokens_in: int | None
    tokens_out: int | None
    model_version: str | None
    request_digest: str
    response_digest: str
    at: datetime


class RawEvidenceOut(EvidenceOut):
    """A sample with the very bytes of both sides, in base64, from which the digests follow."""

    request: str
    response: str


class PanelAnswerOut(Wire):
    """The same question put to another model of the panel, with what came of that."""

    id: str
    state: str
    model: str
    judge_missed: int | None
    failure_code: str | None
    failure: str | None
    responses: list[EvidenceOut]


class AttemptOut(Wire):
    """One question put to a target model, and to the others of its project's panel if it has one.

    `stump_rule` says which of them a stump must defeat; null where only the target was asked.
    """

    id: str
    offer_id: str
    task_id: str
    project_id: str
    state: str
    prompt: str
    reference: str
    parameters: dict[str, Any]
    sent_at: datetime | None
    responded_at: datetime | None
    claims_stump: bool | None
    judge_missed: int | None
    failure_code: str | None
    failure: str | None
    responses: list[EvidenceOut]
    stump_rule: str | None
    panel: list[PanelAnswerOut]


class SubmissionIn(Wire):
    """What is handed in, and the attempt that proves it, if there is one."""

    payload: dict[str, Any]
    attempt_id: str | None = None


class HandedInOut(Wire):
    """Work handed in."""

    id: str
    offer_id: str
    task_id: str
    state: str
    attempt_id: str | None
    submitted_at: datetime | None


@post(
    "/offers/{offer_id:str}/attempts",
    scope="work:write",
    status_code=HTTP_202_ACCEPTED,
    tags=["Attempts"],
)
def post_attempt(
    offer_id: FromPath[str], data: JSONBody[AttemptIn], principal: NamedDependency[Principal]
) -> AttemptOut:
    """Ask the target model; it answers later, and the session's clock runs on."""
    # As the platform, because the target model is the lab's and not the expert's to see.
    with database.begin(PLATFORM) as session:
        row = make_attempt(
            session,
            read_id("ofr", offer_id),
            expert_id=principal.person_id,
            prompt=data.prompt,
            reference=data.reference,
            seed=data.seed,
            at=now(),
        )
        return attempt_out(session, row)


@get("/offers/{offer_id:str}/attempts", scope="work:read", tags=["Attempts"])
def get_attempts(
    offer_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AttemptOut]:
    """The attempts of an offer, newest first, failed ones included."""
    offer = read_id("ofr", offer_id)
    with database.begin() as session:
        return listed(
            session,
            attempts(offer),
            Attempt.id,
            lambda row: attempt_out(session, row),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|attempts|{offer}",
        )


@get("/attempts/{attempt_id:str}", scope="work:read", tags=["Attempts"])
def get_attempt(attempt_id: FromPath[str]) -> AttemptOut:
    """One attempt, with what the model answered so far."""
    with database.begin() as session:
        return attempt_out(session, attempt(session, read_id("att", attempt_id)))


@get("/attempts/{attempt_id:str}/evidence", scope="work:read", tags=["Attempts"])
def get_evidence(attempt_id: FromPath[str]) -> list[RawEvidenceOut]:
    """The bytes that were sent and received, to check the digests for yourself."""
    with database.begin() as session:
        row = attempt(session, read_id("att", attempt_id))
        return [
            RawEvidenceOut(
                **msgspec.structs.asdict(evidence_out(response)),
                request=base64.b64encode(response.request).decode(),
                response=base64.b64encode(response.raw).decode(),
            )
            for response in responses(session, row.id)
        ]


@post(
    "/attempts/{attempt_id:str}/claim",
    scope="work:write",
    status_code=HTTP_200_OK,
    tags=["Attempts"],
)
def post_claim(
    attempt_id: FromPath[str], data: JSONBody[ClaimIn], principal: NamedDependency[Principal]
) -> AttemptOut:
    """Claim a stump, or say that the model was right; both are honest work and paid."""
    # As the platform, which keeps the automatic judge's reading beside the claim.
    with database.begin(PLATFORM) as session:
        row = claim_stump(
            session,
            read_id("att", attempt_id),
            expert_id=principal.person_id,
            claims_stump=data.claims_stump,
            at=now(),
        )
        return attempt_out(session, row)


@post(
    "/offers/{offer_id:str}/submission",
    scope="work:write",
    status_code=HTTP_201_CREATED,
    tags=["Work"],
)
def post_submission(
    offer_id: FromPath[str], data: JSONBody[SubmissionIn], principal: NamedDependency[Principal]
) -> HandedInOut:
    """Hand in; the session ends, and reviews follow."""
    offer = read_id("ofr", offer_id)
    # As the platform, because the offer, its slot and its task move with the submission.
    with database.begin(PLATFORM) as session:
        if data.attempt_id is None:
            row = submit_work(
                session, offer, expert_id=principal.person_id, payload=data.payload, at=now()
            )
        else:
            row = submit_attempt(
                session,
                offer,
                read_id("att", data.attempt_id),
                expert_id=principal.person_id,
                payload=data.payload,
                at=now(),
            )
        return HandedInOut(
            id=wire_id("sub", row.id),
            offer_id=wire_id("ofr", row.offer_id),
            task_id=wire_id("tsk", row.task_id),
            state=row.state,
            attempt_id=data.attempt_id,
            submitted_at=row.submitted_at,
        )


def attempt_out(session: Session, row: Attempt) -> AttemptOut:
    """An attempt as it travels, with its evidence."""
    return AttemptOut(
        id=wire_id("att", row.id),
        offer_id=wire_id("ofr", row.offer_id),
        task_id=wire_id("tsk", row.task_id),
        project_id=wire_id("prj", row.project_id),
        state=row.state,
        prompt=row.prompt,
        reference=row.reference,
        parameters=row.parameters,
        sent_at=row.sent_at,
        responded_at=row.responded_at,
        claims_stump=row.claims_stump,
        judge_missed=row.judge_missed,
        failure_code=row.failure_code,
        failure=row.failure,
        responses=[evidence_out(response) for response in responses(session, row.id)],
        stump_rule=row.stump_rule,
        panel=[
            PanelAnswerOut(
                id=wire_id("att", one.id),
                state=one.state,
                model=str(one.parameters["model"]),
                judge_missed=one.judge_missed,
                failure_code=one.failure_code,
                failure=one.failure,
                responses=[evidence_out(response) for response in responses(session, one.id)],
            )
            for one in beside(session, row)
        ],
    )


def evidence_out(response: AttemptResponse) -> EvidenceOut:
    """One sample as it travels."""
    return EvidenceOut(
        k=response.k,
        output=response.output,
        finish_reason=response.finish_reason,
        latency_ms=response.latency_ms,
        tokens_in=response.tokens_in,
        tokens_out=response.tokens_out,
        model_version=response.model_version,
        request_digest=response.request_digest.hex(),
        response_digest=response.response_digest.hex(),
        at=response.at,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_attempt,
    get_attempts,
    get_attempt,
    get_evidence,
    post_claim,
    post_submission,
]
