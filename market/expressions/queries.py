"""Reads of cohorts, and of whom an expression holds for and why not."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session, aliased

from market.experts.queries import facts_of
from market.experts.rules import EXPERT_FIELDS, WORKING
from market.expressions.models import CohortRow
from market.expressions.rules import CohortNotFound, ConditionCount, Explained, Failing
from market.filters import compiled, tree_sql
from market.grammar import Saved, condition_written, parse
from market.language import (
    Condition,
    Expression,
    Tree,
    conditions,
    failing,
    from_json,
    without,
)

MATCHING = "select e.id from market.expert e where {condition} order by e.id limit :most"

COUNTS = """
    with seen as materialized (
        select {seen} from market.expert e where e.state = any(:working)
    )
    select count(*), {counts} from seen
    """


def newest_cohorts(organisation_id: UUID | None) -> Select[CohortRow]:
    """The cohorts of an organisation, or of all for the platform, each as it is now."""
    later = aliased(CohortRow)
    newer = select(later.id).where(
        later.organisation_id == CohortRow.organisation_id,
        later.name == CohortRow.name,
        later.version > CohortRow.version,
    )
    found = select(CohortRow).where(~newer.exists())
    if organisation_id is not None:
        found = found.where(CohortRow.organisation_id == organisation_id)
    return found


def cohort(session: Session, organisation_id: UUID, name: str) -> CohortRow:
    """The newest version of a cohort.

    Raises:
        CohortNotFound.
    """
    found = session.scalar(newest_cohorts(organisation_id).where(CohortRow.name == name))
    if found is None:
        raise CohortNotFound()
    return found


def cohort_versions(organisation_id: UUID, name: str) -> Select[CohortRow]:
    """All that a cohort was and is, as a statement to page through."""
    return select(CohortRow).where(
        CohortRow.organisation_id == organisation_id, CohortRow.name == name
    )


def read_expression(session: Session, organisation_id: UUID | None, source: str) -> Expression:
    """An expression about experts; the cohorts that it names are the organisation's.

    Raises:
        ExpressionInvalid, ExpressionTooLarge.
    """
    saved: dict[str, Saved] = {}
    if organisation_id is not None and "cohort" in source.lower():
        for row in session.scalars(newest_cohorts(organisation_id)):
            saved[row.name] = Saved(row.version, from_json(row.expression).tree)
    return parse(source, EXPERT_FIELDS, saved)


def matching_experts(
    session: Session, tree: Tree, *, at: datetime, limit: int | None = None
) -> list[UUID]:
    """The experts for whom an expression holds, whatever their standing, in the order of their ids.

    Runs as the platform.
    """
    made = compiled(tree, EXPERT_FIELDS, row="e", at=at)
    statement = text(MATCHING.format(condition=made.sql))
    return list(session.scalars(statement, {**made.values, "most": limit}))


def explained(session: Session, tree: Tree, *, at: datetime) -> Explained:
    """How many of the experts who can work an expression holds for, and what each condition costs.

    Each condition is asked once of each expert. Runs as the platform.
    """
    asked = list(dict.fromkeys(conditions(tree)))
    parts = {
        one: compiled(one, EXPERT_FIELDS, row="e", at=at, prefix=f"c{n}_")
        for n, one in enumerate(asked)
    }
    column = {one: f"c{n}" for n, one in enumerate(asked)}

    def named(condition: Condition) -> str:
        return column[condition]

    seen = ", ".join(f"{parts[one].sql} as {column[one]}" for one in asked) or "true as c0"
    counted = [tree_sql(tree, named), *(column[one] for one in asked)]
    counted += [tree_sql(without(tree, one), named) for one in asked]
    values: dict[str, object] = {"working": list(WORKING)}
    for part in parts.values():
        values.update(part.values)
    counts = ", ".join(f"count(*) filter (where {one})" for one in counted)
    row = session.execute(
        text(COUNTS.format(seen=seen, counts=counts)),
        values,
    ).one()
    pool, matching = int(row[0]), int(row[1])
    told = tuple(
        ConditionCount(
            written=condition_written(one, EXPERT_FIELDS),
            start=one.start,
            end=one.end,
            passing=int(row[2 + n]),
            found_without=int(row[2 + len(asked) + n]) - matching,
        )
        for n, one in enumerate(asked)
    )
    return Explained(pool, matching, told)


def explained_people(
    session: Session, tree: Tree, expert_ids: Sequence[UUID], *, at: datetime
) -> list[Failing]:
    """Some experts, each with the conditions by which it fails; those who are none are left out.

    Runs as the platform.
    """
    facts = facts_of(session, expert_ids, at)
    return [
        Failing(
            expert_id,
            tuple(
                (condition_written(one, EXPERT_FIELDS), _said(facts[expert_id].get(one.field)))
                for one in failing(tree, facts[expert_id], EXPERT_FIELDS)
            ),
        )
        for expert_id in expert_ids
        if expert_id in facts
    ]


def _said(known: object) -> str | None:
    if isinstance(known, frozenset):
        return ", ".join(sorted(known))
    return None if known is None else str(known)
