"""Making, simulating, starting and applying quality rules.

Everything here runs as the platform. A rule acts through the standing machine, on somebody locked:
its expert reads on what evidence, until when, and where to appeal.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, change_state, emit
from market.experts.queries import expert
from market.experts.rules import STANDING, checked_domains
from market.grammar import parse
from market.http import wire_id
from market.language import to_json
from market.quality_rules.models import QualityRule, RuleFiring, RuleSimulation
from market.quality_rules.queries import (
    expression_of,
    holding,
    left_alone,
    quality_rule,
    rejected_work,
    terms_of,
    usual_share,
    verdicts_after,
)
from market.quality_rules.rules import (
    QUALITY_RULE,
    SHOWN,
    SIGNALS,
    Hit,
    Judged,
    RuleNotSimulated,
    RuleTerms,
    check_stretch,
    check_terms,
    looks_at,
    told_facts,
)
from market.standings.actions import change_standing
from market.standings.queries import newest_measure

STEPS: dict[str, dict[str, tuple[str, ...]]] = {
    "watch": {"good": ("watch",)},
    "review": {"good": ("watch",), "watched": ("watch",), "limited": ("watch",)},
    "limit": {"good": ("watch", "limit"), "watched": ("limit",)},
    "notify": dict.fromkeys(STANDING.states, ()),
}
"""What a rule does -> the standing it finds -> the steps it takes; nothing for all others."""


def make_rule(
    session: Session,
    name: str,
    terms: RuleTerms,
    *,
    expires_at: datetime,
    owner_id: UUID,
    at: datetime,
) -> QualityRule:
    """Write a rule, or a new version of one; it acts on nobody before it is simulated and started.

    Raises:
        QualityRuleUnfit, ExpressionInvalid, ExpressionTooLarge, DomainInvalid, TooManyDomains.
    """
    domains = checked_domains(terms.domains)
    check_terms(name, terms, expires_at=expires_at, known_domains=domains, at=at)
    expression = parse(terms.when, SIGNALS)
    # One after the other, so that two versions at once get two numbers.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"quality rule {name}"))))
    last = session.scalar(select(func.max(QualityRule.number)).where(QualityRule.name == name))
    made = QualityRule(
        name=name,
        number=(last or 0) + 1,
        terms=msgspec.to_builtins(terms),
        expression=to_json(expression),
        owner_id=owner_id,
        made_at=at,
        expires_at=expires_at,
    )
    session.add(made)
    session.flush()
    return made


def simulate_rule(
    session: Session,
    rule_id: UUID,
    *,
    since: datetime,
    until: datetime,
    at: datetime,
    actor_id: UUID | None = None,
) -> RuleSimulation:
    """See whom a rule would have hit on a stretch of history, and how their work went on.

    Raises:
        QualityRuleNotFound, StretchRefused, FieldGone.
    """
    check_stretch(since, until, at=at)
    rule = quality_rule(session, rule_id)
    judged = _judge(session, rule, since=since, until=until, at=at)
    wrong = judged.wrong
    made = RuleSimulation(
        rule_id=rule_id,
        at=at,
        since=since,
        until=until,
        looks=judged.looks,
        people=len(judged.hits),
        judged=wrong.whole,
        wrong=wrong.part,
        low=wrong.low,
        high=wrong.high,
        usual=judged.usual,
        by=actor_id,
        hits={
            "people": [
                {
                    "expert_id": wire_id("per", hit.expert_id),
                    "at": hit.at.isoformat(),
                    "known": hit.known,
                    "later": hit.later,
                    "later_accepted": hit.later_accepted,
                    "was_wrong": None if judged.usual is None else hit.was_wrong(judged.usual),
                }
                for hit in judged.hits[:SHOWN]
            ]
        },
    )
    session.add(made)
    session.flush()
    return made


def _judge(
    session: Session, rule: QualityRule, *, since: datetime, until: datetime, at: datetime
) -> Judged:
    expression = expression_of(rule)
    times = looks_at(since, until)
    first: dict[UUID, tuple[datetime, dict[str, str]]] = {}
    for time in times:
        # Whatever the standing now: it may be another one because of what is asked about.
        for expert_id, known in holding(session, expression, at=time, standings=STANDING.states):
            first.setdefault(expert_id, (time, known))
    later = verdicts_after(session, [(one, hit[0]) for one, hit in first.items()], until=at)
    hits = tuple(
        Hit(expert_id, time, known, *later.get(expert_id, (0, 0)))
        for expert_id, (time, known) in sorted(first.items(), key=lambda one: one[1][0])
    )
    return Judged(len(times), hits, usual_share(session, since=since, until=at))


def start_rule(session: Session, rule_id: UUID, *, at: datetime, actor_id: UUID) -> QualityRule:
    """Put a rule into force; the version that was, retires.

    Raises:
        QualityRuleNotFound, RuleNotSimulated, QualityRuleUnfit, StateConflict.
    """
    rule = quality_rule(session, rule_id, lock=True)
    QUALITY_RULE.target(rule.state, "start")
    check_terms(rule.name, terms_of(rule), expires_at=rule.expires_at, known_domains=(), at=at)
    tried = select(RuleSimulation.id).where(RuleSimulation.rule_id == rule_id).limit(1)
    if session.scalar(tried) is None:
        raise RuleNotSimulated()
    before = session.scalar(
        select(QualityRule)
        .where(QualityRule.name == rule.name, QualityRule.state == "in_force")
        .with_for_update()
    )
    if before is not None:
        _move(session, before, "retire", at=at, actor_id=actor_id, reason_code="replaced")
    rule.started_at, rule.started_by = at, actor_id
    _move(session, rule, "start", at=at, actor_id=actor_id)
    return rule


def end_rule(session: Session, rule_id: UUID, *, at: datetime, actor_id: UUID) -> QualityRule:
    """Drop a draft, or retire a rule; what it did stands until its end, an appeal, or a lifting.

    Raises:
        QualityRuleNotFound, StateConflict.
    """
    rule = quality_rule(session, rule_id, lock=True)
    action = "drop" if rule.state == "drafted" else "retire"
    _move(session, rule, action, at=at, actor_id=actor_id)
    return rule


def expire_rule(session: Session, rule_id: UUID, *, at: datetime) -> bool:
    """End a rule whose time is over; whether it was in force. Its owner is told."""
    rule = quality_rule(session, rule_id, lock=True)
    if rule.state != "in_force" or rule.expires_at > at:
        return False
    _move(session, rule, "expire", at=at, reason_code="time_over")
    return True


def apply_rule(session: Session, rule_id: UUID, *, at: datetime) -> list[RuleFiring]:
    """Act on everybody for whom a rule holds and whom it does not leave alone.

    The rule is locked, so that nobody is hit twice by two sweeps at once.
    """
    rule = quality_rule(session, rule_id, lock=True)
    if rule.state != "in_force" or rule.expires_at <= at:
        return []
    terms = terms_of(rule)
    steps = STEPS[terms.action]
    free = left_alone(session, rule, since=at - timedelta(days=terms.lasts_days))
    found = holding(session, expression_of(rule), at=at, standings=list(steps))
    made = [
        _fire(session, rule, terms, expert_id, known, at=at)
        for expert_id, known in found
        if expert_id not in free
    ]
    return [one for one in made if one is not None]


def _fire(
    session: Session,
    rule: QualityRule,
    terms: RuleTerms,
    expert_id: UUID,
    known: dict[str, str],
    *,
    at: datetime,
) -> RuleFiring | None:
    found = expert(session, expert_id, lock=True)
    session.refresh(found)
    steps = STEPS[terms.action].get(found.state)
    if steps is None:
        return None
    until = at + timedelta(days=terms.lasts_days)
    told = (
        f"{terms.text}\n\nThe rule {rule.name}, version {rule.number}, asks: {terms.when}. "
        f"Known of you: {told_facts(known)}. This ends on {until:%d %B %Y}, and earlier if you "
        "appeal and win: send the id of this step to /v1/appeals."
    )
    evidence = [f"{name} = {value}" for name, value in known.items()]
    evidence += [wire_id("sub", one) for one in rejected_work(session, expert_id, at=at)]
    for step in steps:
        change_standing(
            session,
            expert_id,
            step,
            at=at,
            reason_code=terms.reason_code,
            note=told,
            evidence=evidence,
            domains=terms.domains if step == "limit" else (),
            until=until,
            reviews_all=terms.action == "review",
        )
    measure = newest_measure(session, expert_id) if steps else None
    fired = RuleFiring(
        id=new_id(),
        rule_id=rule.id,
        expert_id=expert_id,
        at=at,
        known=dict(known),
        told=told if steps else told_facts(known),
        measure_id=None if measure is None else measure.id,
    )
    session.add(fired)
    session.flush()
    emit(
        session,
        Event.QUALITY_RULE_FIRED,
        fired.id,
        at=at,
        data={
            "rule": rule.name,
            "number": rule.number,
            "action": terms.action,
            "expert_id": wire_id("per", expert_id),
        },
    )
    return fired


def _move(
    session: Session,
    rule: QualityRule,
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
    reason_code: str | None = None,
) -> None:
    change_state(
        session,
        QUALITY_RULE,
        rule,
        action,
        at=at,
        event=Event.QUALITY_RULE_CHANGED,
        actor_id=actor_id,
        # Whoever answers for it hears of its end, unless it was them.
        person_id=rule.owner_id if action == "expire" else None,
        reason_code=reason_code,
        data={"name": rule.name, "number": rule.number, "action": action},
    )
