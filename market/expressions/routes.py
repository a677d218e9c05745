"""Expressions explained, and cohorts, over HTTP."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Part, Principal, ScopeMissing
from market.db import PLATFORM, database, now
from market.experts.rules import EXPERT_FIELDS
from market.expressions.actions import save_cohort
from market.expressions.models import CohortRow
from market.expressions.queries import (
    cohort,
    cohort_versions,
    explained,
    explained_people,
    newest_cohorts,
    read_expression,
)
from market.expressions.rules import MAX_EXPLAINED, told
from market.grammar import written
from market.http import Cursor, Limit, Page, Wire, get, listed, post, put, read_id, wire_id
from market.language import LANGUAGE, OPERATORS, Tree, from_json


class ExpressionIn(Wire):
    """An expression about experts, and, for ops, the experts to tell of by name."""

    expression: str
    expert_ids: Annotated[tuple[str, ...], Meta(max_length=MAX_EXPLAINED)] = ()


class ConditionOut(Wire):
    """One condition: where it stands, how many experts fulfil it, and how many more would be found
    without it. A number of 1 to 4 is null for a lab.
    """

    condition: str
    start: int
    end: int
    passing: int | None
    found_without: int | None


class FailureOut(Wire):
    """A condition that an expert fails, and what is known instead; null where nothing is."""

    condition: str
    known: str | None


class ExpertExplainedOut(Wire):
    """Whether an expression holds for an expert, and by which conditions it fails."""

    expert_id: str
    matches: bool
    failing: list[FailureOut]


class ExplainedOut(Wire):
    """What an expression means, and how many of the experts who can work it holds for.

    `costliest` is the condition without which the most would be found; null if none costs any.
    """

    language: int
    expression: str
    tree: Tree
    pool: int | None
    matching: int | None
    conditions: list[ConditionOut]
    costliest: str | None
    experts: list[ExpertExplainedOut]


class FieldOut(Wire):
    """Something that an expression can ask about."""

    name: str
    kind: str
    about: str
    operators: list[str]
    choices: list[str]
    example: str


class LanguageOut(Wire):
    """The language of expressions about experts."""

    language: int
    fields: list[FieldOut]


class CohortIn(Wire):
    """What a cohort is: an expression."""

    expression: str


class CohortOut(Wire):
    """A cohort as it is now."""

    id: str
    name: str
    version: int
    expression: str
    saved_at: datetime


class CohortVersionOut(CohortOut):
    """A cohort as it is or was, and who saved it so."""

    saved_by: str | None


class CountedCohortOut(CohortOut):
    """A cohort, and how many experts who can work are in it; null to a lab for 1 to 4."""

    matching: int | None


@post("/expressions:explain", scope="project:read", status_code=HTTP_200_OK, tags=["Expressions"])
def post_explain(
    data: JSONBody[ExpressionIn], principal: NamedDependency[Principal]
) -> ExplainedOut:
    """Read an expression and tell whom it leaves out: which condition fails for how many, and for
    ops also for whom.
    """
    is_lab = principal.part is Part.LAB
    if data.expert_ids and is_lab:
        raise ScopeMissing("expert:read", principal.part)
    with database.begin() as session:
        found = read_expression(session, principal.organisation_id, data.expression)
    # As the platform, because experts are counted whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        at = now()
        counts = explained(session, found.tree, at=at)
        people = explained_people(
            session, found.tree, [read_id("per", one) for one in data.expert_ids], at=at
        )
    costly = max(counts.conditions, key=lambda one: one.found_without, default=None)
    return ExplainedOut(
        language=found.language,
        expression=written(found.tree, EXPERT_FIELDS),
        tree=found.tree,
        pool=told(counts.pool, is_lab=is_lab),
        matching=told(counts.matching, is_lab=is_lab),
        conditions=[
            ConditionOut(
                condition=one.written,
                start=one.start,
                end=one.end,
                passing=told(one.passing, is_lab=is_lab),
                found_without=told(one.found_without, is_lab=is_lab),
            )
            for one in counts.conditions
        ],
        costliest=costly.written if costly is not None and costly.found_without > 0 else None,
        experts=[
            ExpertExplainedOut(
                expert_id=wire_id("per", one.expert_id),
                matches=not one.conditions,
                failing=[FailureOut(condition=c, known=known) for c, known in one.conditions],
            )
            for one in people
        ],
    )


@get("/expressions/language", scope="project:read", tags=["Expressions"])
def get_language() -> LanguageOut:
    """Everything that an expression about experts can ask."""
    return LanguageOut(
        language=LANGUAGE,
        fields=[
            FieldOut(
                name=f"{one.name}.<domain>" if one.is_keyed else one.name,
                kind=one.kind,
                about=one.about,
                operators=list(OPERATORS[one.kind]),
                choices=list(one.choices),
                example=one.example,
            )
            for one in EXPERT_FIELDS
        ],
    )


@put("/cohorts/{name:str}", scope="project:write", tags=["Expressions"])
def put_cohort(
    name: FromPath[str], data: JSONBody[CohortIn], principal: NamedDependency[Principal]
) -> CohortOut:
    """Save an expression under a name, to be used as `cohort "name"`. What uses it already keeps
    what it was then.
    """
    with database.begin() as session:
        return _cohort_out(
            save_cohort(
                session,
                principal.tenant,
                name,
                data.expression,
                at=now(),
                actor_id=principal.person_id,
            )
        )


@get("/cohorts", scope="project:read", tags=["Expressions"])
def get_cohorts(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[CohortOut]:
    """Your cohorts (of all labs, for ops), each as it is now, the last saved first."""
    owner: UUID | None = principal.organisation_id
    with database.begin() as session:
        return listed(
            session,
            newest_cohorts(owner),
            CohortRow.id,
            _cohort_out,
            limit=limit,
            cursor=cursor,
            filters=f"cohorts {owner}",
        )


@get("/cohorts/{name:str}", scope="project:read", tags=["Expressions"])
def get_cohort(name: FromPath[str], principal: NamedDependency[Principal]) -> CountedCohortOut:
    """A cohort, and how many experts are in it now."""
    with database.begin() as session:
        found = cohort(session, principal.tenant, name)
        out, tree = _cohort_out(found), from_json(found.expression).tree
    with database.begin(PLATFORM) as session:
        matching = explained(session, tree, at=now()).matching
    return CountedCohortOut(
        id=out.id,
        name=out.name,
        version=out.version,
        expression=out.expression,
        saved_at=out.saved_at,
        matching=told(matching, is_lab=principal.part is Part.LAB),
    )


@get("/cohorts/{name:str}/versions", scope="project:read", tags=["Expressions"])
def get_cohort_versions(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[CohortVersionOut]:
    """All that a cohort was, the newest first. What names it keeps the version it was made with."""
    owner = principal.tenant
    with database.begin() as session:
        cohort(session, owner, name)
        return listed(
            session,
            cohort_versions(owner, name),
            CohortRow.id,
            _version_out,
            limit=limit,
            cursor=cursor,
            filters=f"cohort {owner} {name}",
        )


def _version_out(row: CohortRow) -> CohortVersionOut:
    by = None if row.saved_by is None else wire_id("per", row.saved_by)
    return CohortVersionOut(**msgspec.structs.asdict(_cohort_out(row)), saved_by=by)


def _cohort_out(row: CohortRow) -> CohortOut:
    return CohortOut(
        id=wire_id("coh", row.id),
        name=row.name,
        version=row.version,
        expression=from_json(row.expression).source,
        saved_at=row.saved_at,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_explain,
    get_language,
    put_cohort,
    get_cohorts,
    get_cohort,
    get_cohort_versions,
]
