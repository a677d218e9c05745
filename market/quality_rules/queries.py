"""Reads of quality rules: whom one holds for, now or then, and what came afterwards."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, DateTime, Select, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.filters import compiled, narrowed
from market.language import Condition, Expression, conditions, from_json
from market.quality_rules.models import QualityRule, RuleFiring, RuleSimulation
from market.quality_rules.rules import (
    EVIDENCE,
    LATER,
    SIGNALS,
    QualityRuleNotFound,
    RuleTerms,
)
from market.verdicts.rules import REVIEWED

HOLDING = """
    select e.id, {known} from market.expert e
    where e.created_at <= :asked_at and e.state = any(:standings) and {condition} order by e.id
"""

_LATER = text(
    """
    select hit.expert_id, count(v.submission_id) as later,
        count(*) filter (where v.is_accepted) as accepted
    from unnest(:experts, :times) as hit (expert_id, at)
    left join market.verdict v on v.expert_id = hit.expert_id and v.basis = any(:reviewed)
        and v.decided_at > hit.at and v.decided_at <= least(hit.at + :later, :until)
    group by hit.expert_id
    """
).bindparams(
    bindparam("experts", type_=ARRAY(Uuid())),
    bindparam("times", type_=ARRAY(DateTime(timezone=True))),
)

_USUAL = text(
    """
    select avg(is_accepted::int)::float8 from market.verdict
    where basis = any(:reviewed) and decided_at > :since and decided_at <= :until
    """
)

_WORK = text(
    """
    select submission_id from market.verdict
    where expert_id = :expert_id and basis = any(:reviewed) and not is_accepted
        and decided_at <= :at
    order by decided_at desc limit :most
    """
)


def quality_rule(session: Session, rule_id: UUID, *, lock: bool = False) -> QualityRule:
    """The version of a rule with this id; locked, when it is about to be moved or applied.

    Raises:
        QualityRuleNotFound.
    """
    found = session.get(QualityRule, rule_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise QualityRuleNotFound(rule_id)
    return found


def quality_rules(*, state: str | None = None) -> Select[QualityRule]:
    """Versions of rules, as a statement to page through."""
    statement = select(QualityRule)
    return statement if state is None else statement.where(QualityRule.state == state)


def terms_of(rule: QualityRule) -> RuleTerms:
    """What a rule says."""
    return msgspec.convert(rule.terms, RuleTerms)


def rules_due(session: Session, *, at: datetime) -> list[UUID]:
    """Rules that are to act now: in force, and not past their end."""
    return list(
        session.scalars(
            select(QualityRule.id)
            .where(QualityRule.state == "in_force", QualityRule.expires_at > at)
            .order_by(QualityRule.id)
        )
    )


def rules_over(session: Session, *, at: datetime) -> list[UUID]:
    """Rules in force whose time is over."""
    return list(
        session.scalars(
            select(QualityRule.id).where(
                QualityRule.state == "in_force", QualityRule.expires_at <= at
            )
        )
    )


def holding(
    session: Session, expression: Expression, *, at: datetime, standings: Sequence[str]
) -> list[tuple[UUID, dict[str, str]]]:
    """The experts for whom a condition held at a time, with what was known of each signal it names.

    A verdict that was corrected since counts as it stands now.
    """
    made = compiled(expression.tree, SIGNALS, row="e", at=at, prefix="rule")
    asked = list(dict.fromkeys(one.field for one in conditions(expression.tree)))
    columns = [
        SIGNALS.fields[name].column.format(row="e", at="cast(:asked_at as timestamptz)")
        for name in asked
    ]
    known = ", ".join(columns) or "true"
    statement = text(HOLDING.format(known=known, condition=made.sql))
    values = {**made.values, "asked_at": at, "standings": list(standings)}
    return [
        (row[0], {name: said(value) for name, value in zip(asked, row[1:], strict=False)})
        for row in session.execute(statement.columns(id=Uuid()), values)
    ]


def said(value: object) -> str:
    """A signal as people read it: counts as they are, shares to a thousandth."""
    if value is None:
        return "unknown"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(sorted(str(one) for one in value)) or "none"
    whole = str(value)
    return whole if whole.lstrip("-").isdigit() or "." not in whole else f"{float(whole):.3f}"


def verdicts_after(
    session: Session, hits: Sequence[tuple[UUID, datetime]], *, until: datetime
) -> dict[UUID, tuple[int, int]]:
    """Reviewed verdicts of each of some people within a month after a time, and those accepted."""
    rows = session.execute(
        _LATER,
        {
            "experts": [one for one, _ in hits],
            "times": [at for _, at in hits],
            "reviewed": list(REVIEWED),
            "later": LATER,
            "until": until,
        },
    )
    return {UUID(str(row.expert_id)): (row.later, row.accepted) for row in rows}


def usual_share(session: Session, *, since: datetime, until: datetime) -> float | None:
    """The accepted share of everybody's reviewed work on a stretch."""
    given = {"reviewed": list(REVIEWED), "since": since, "until": until}
    found: float | None = session.scalar(_USUAL, given)
    return found


def rejected_work(session: Session, expert_id: UUID, *, at: datetime) -> list[UUID]:
    """The latest work of an expert's that was not accepted."""
    given = {"expert_id": expert_id, "reviewed": list(REVIEWED), "at": at, "most": EVIDENCE}
    return [row.submission_id for row in session.execute(_WORK, given)]


def left_alone(session: Session, rule: QualityRule, *, since: datetime) -> set[UUID]:
    """Whom a rule does not act on again: hit since a time by any version of it, or freed of this
    one by an appeal.
    """
    rows = session.execute(
        text(
            """
            select f.expert_id from market.rule_firing f
            join market.quality_rule r on r.id = f.rule_id
            left join market.measure m on m.id = f.measure_id
            where r.name = :name
                and (f.at > :since or (f.rule_id = :rule_id and m.end_reason = 'appeal_won'))
            """
        ).columns(expert_id=Uuid()),
        {"name": rule.name, "rule_id": rule.id, "since": since},
    )
    return {row.expert_id for row in rows}


def simulations(session: Session, rule_id: UUID) -> Sequence[RuleSimulation]:
    """The simulations of one version of a rule, the latest first."""
    return session.scalars(
        select(RuleSimulation)
        .where(RuleSimulation.rule_id == rule_id)
        .order_by(RuleSimulation.id.desc())
        .limit(20)
    ).all()


def firings(*, rule_id: UUID | None = None, expert_id: UUID | None = None) -> Select[RuleFiring]:
    """Whom rules hit, as a statement to page through."""
    return narrowed(
        select(RuleFiring), (RuleFiring.rule_id, rule_id), (RuleFiring.expert_id, expert_id)
    )


def firing_outcomes(session: Session, rule_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """Of each of some rules, how many it hit, and how many of those an appeal freed since."""
    rows = session.execute(
        select(
            RuleFiring.rule_id,
            func.count(),
            func.count().filter(
                text(
                    "exists (select from market.measure m where m.id = rule_firing.measure_id"
                    " and m.end_reason = 'appeal_won')"
                )
            ),
        )
        .where(RuleFiring.rule_id.in_(rule_ids))
        .group_by(RuleFiring.rule_id)
    ).all()
    return {row[0]: (row[1], row[2]) for row in rows}


def expression_of(rule: QualityRule) -> Expression:
    """The condition of a rule as it was read when the rule was made."""
    return from_json(rule.expression)


def asked_signals(rule: QualityRule) -> list[str]:
    """The signals that a rule asks about."""
    found: list[Condition] = conditions(expression_of(rule).tree)
    return list(dict.fromkeys(one.field for one in found))
