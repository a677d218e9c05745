"""What a replayed market came to, computed from the service's own tables."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from market.attempts.models import Attempt, AttemptResponse
from market.broker import DeadLetter
from market.earnings.models import Earning
from market.events import EventRow
from market.offers.models import Offer
from market.replay.script import Recorded, Script
from market.reviews.models import Review
from market.runs.models import MatchingRun
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import Verdict
from market.work.models import TimeEntry
from payouts.invariants import violations
from payouts.ledger import trial_balance
from payouts.models import Payout

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of a replay. Units: rows, seconds."""

    name: str
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold at the end, whether it does, and what was seen."""

    claim: str
    holds: bool
    seen: str


@dataclass(slots=True)
class Report:
    """What a market did. Units: shares from 0 to 1, money in minor units, time in seconds."""

    title: str
    facts: dict[str, float] = field(default_factory=dict)
    money: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def report_on(
    session: Session, script: Script, project_id: UUID, stages: Sequence[Stage]
) -> Report:
    """The report of one project's market."""
    report = Report(title=script.title, stages=list(stages), notes=script.notes)
    report.facts = facts_of(session, project_id)
    report.money = money_of(session, project_id)
    report.checks = [
        *_record_checks(script, report.facts),
        *_market_checks(session, report),
    ]
    return report


def facts_of(session: Session, project_id: UUID) -> dict[str, float]:
    """Counts and shares of one project, each from the rows that are the thing itself."""

    def number(statement: object) -> float:
        return float(session.scalar(statement) or 0)  # type: ignore[call-overload]

    made = select(func.count()).select_from(Offer).where(Offer.project_id == project_id)
    facts = {
        "tasks": number(
            select(func.count()).select_from(Task).where(Task.project_id == project_id)
        ),
        "offers": number(made),
        "offers_accepted": number(made.where(Offer.accepted_at.is_not(None))),
        "matched_value": number(
            select(func.sum(Offer.value)).where(Offer.project_id == project_id)
        ),
        "matching_runs": number(
            select(func.count()).select_from(MatchingRun).where(MatchingRun.state == "succeeded")
        ),
        "attempts": number(
            select(func.count()).select_from(Attempt).where(Attempt.project_id == project_id)
        ),
        "answers_kept": number(
            select(func.count())
            .select_from(AttemptResponse)
            .join(Attempt, Attempt.id == AttemptResponse.attempt_id)
            .where(Attempt.project_id == project_id)
        ),
        "people": number(
            select(func.count(Attempt.expert_id.distinct())).where(Attempt.project_id == project_id)
        ),
        "submissions": number(
            select(func.count())
            .select_from(Submission)
            .where(Submission.project_id == project_id, Submission.submitted_at.is_not(None))
        ),
        "votes": number(
            select(func.count())
            .select_from(Review)
            .where(Review.project_id == project_id, Review.voted_at.is_not(None))
        ),
        "raters": number(
            select(func.count(Review.reviewer_id.distinct())).where(
                Review.project_id == project_id, Review.voted_at.is_not(None)
            )
        ),
    }
    facts.update(_verdict_facts(session, project_id, int(facts["people"])))
    return facts


def _verdict_facts(session: Session, project_id: UUID, people: int) -> dict[str, float]:
    rows = session.execute(
        select(
            Verdict.expert_id,
            func.count().label("verdicts"),
            func.sum(cast(Verdict.is_validated, Integer)).label("validated"),
            func.sum(cast(Verdict.is_stump, Integer)).label("stumps"),
        )
        .where(Verdict.project_id == project_id)
        .group_by(Verdict.expert_id)
    ).all()
    verdicts = sum(row.verdicts for row in rows)
    validated = sum(row.validated for row in rows)
    stumps = sum(row.stumps for row in rows)
    top = sorted((row.validated for row in rows), reverse=True)[: math.ceil(people * TOP_SHARE)]
    return {
        "verdicts": verdicts,
        "validated_share": validated / verdicts if verdicts else 0.0,
        "stump_share": stumps / verdicts if verdicts else 0.0,
        "top_decile_people": len(top),
        "top_decile_share": sum(top) / validated if validated else 0.0,
    }


def money_of(session: Session, project_id: UUID) -> dict[str, int]:
    """Seconds and cents of one project, from working time to the bank."""
    worked = session.scalar(
        select(func.sum(TimeEntry.seconds)).where(TimeEntry.project_id == project_id)
    )
    earned = session.execute(
        select(
            func.coalesce(func.sum(Earning.seconds), 0),
            func.coalesce(func.sum(Earning.pay_minor), 0),
            func.coalesce(func.sum(Earning.fee_minor), 0),
        ).where(Earning.project_id == project_id)
    ).one()
    paid = session.execute(
        select(
            func.coalesce(func.sum(Earning.seconds), 0),
            func.coalesce(func.sum(Earning.pay_minor), 0),
        )
        .join(Payout, Payout.id == Earning.payout_id)
        .where(Earning.project_id == project_id, Payout.state == "paid")
    ).one()
    states = Counter(str(state) for state in session.scalars(select(Payout.state)))
    rows = trial_balance(session)
    return {
        "worked_s": int(worked or 0),
        "earned_s": int(earned[0]),
        "earned_minor": int(earned[1]),
        "fee_minor": int(earned[2]),
        "paid_s": int(paid[0]),
        "paid_minor": int(paid[1]),
        "payouts_paid": states["paid"],
        "payouts_open": sum(count for state, count in states.items() if state != "paid"),
        "ledger_debits_minor": sum(row.debit_minor for row in rows),
        "ledger_credits_minor": sum(row.credit_minor for row in rows),
        "mean_rate_minor_per_hour": round(int(earned[1]) * 3600 / int(earned[0]))
        if earned[0]
        else 0,
    }


def _record_checks(script: Script, facts: dict[str, float]) -> list[Check]:
    """The record itself, counted without the service, beside what the service counted."""
    checks = []
    if script.known_optimum is not None:
        seen = facts["matched_value"]
        checks.append(
            Check(
                f"the offers add up to the published optimum, {script.known_optimum}",
                abs(seen - script.known_optimum) < 1e-6,
                f"{seen:.6f}",
            )
        )
    if not isinstance(script.behaviour, Recorded):
        return checks
    for name, wanted in counted(script.behaviour).items():
        checks.append(
            Check(
                f"{name.replace('_', ' ')} as recorded: {_plain(wanted)}",
                abs(facts[name] - wanted) < 1e-9,
                _plain(facts[name]),
            )
        )
    return checks


def counted(record: Recorded) -> dict[str, float]:
    """The facts of a record, straight from its rows: majorities are more than half of the votes."""
    validated: Counter[str] = Counter()
    stumps = 0
    for line in record.attempts.values():
        votes = record.votes.get(line.attempt, [])
        failed = sum(vote.model_failed for vote in votes) * 2 > len(votes)
        fair = sum(vote.attempt_fair for vote in votes) * 2 > len(votes)
        validated[line.expert] += failed
        stumps += failed and fair
    total = sum(validated.values())
    number = len(record.attempts)
    people = len({line.expert for line in record.attempts.values()})
    top = sorted(validated.values(), reverse=True)[: math.ceil(people * TOP_SHARE)]
    return {
        "attempts": number,
        "people": people,
        "votes": sum(len(votes) for votes in record.votes.values()),
        "raters": len({vote.rater for votes in record.votes.values() for vote in votes}),
        "validated_share": total / number,
        "stump_share": stumps / number,
        "top_decile_share": sum(top) / total if total else 0.0,
    }


def _market_checks(session: Session, report: Report) -> list[Check]:
    money = report.money
    waiting = session.scalar(
        select(func.count()).select_from(EventRow).where(EventRow.relayed_at.is_(None))
    )
    dead = session.scalar(
        select(func.count()).select_from(DeadLetter).where(DeadLetter.settled_at.is_(None))
    )
    broken = violations(session)
    return [
        Check(
            "debits equal credits in the ledger",
            money["ledger_debits_minor"] == money["ledger_credits_minor"],
            f"{money['ledger_debits_minor']} / {money['ledger_credits_minor']}",
        ),
        Check("every invariant of money holds", not broken, f"{len(broken)} violations"),
        Check(
            "every second of accepted work is earned",
            money["worked_s"] == money["earned_s"],
            f"{money['worked_s']} / {money['earned_s']} s",
        ),
        Check(
            "every second that is earned reached a payout in the bank",
            money["earned_s"] == money["paid_s"],
            f"{money['earned_s']} / {money['paid_s']} s",
        ),
        Check("nothing is left in the outbox", not waiting, f"{waiting} events"),
        Check("no job died", not dead, f"{dead} dead letters"),
    ]


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.4f}"


def as_json(report: Report) -> str:
    """The report as one JSON document."""
    return json.dumps(
        {
            "title": report.title,
            "holds": report.holds,
            "facts": report.facts,
            "money": report.money,
            "notes": list(report.notes),
            "checks": [
                {"claim": check.claim, "holds": check.holds, "seen": check.seen}
                for check in report.checks
            ],
            "stages": [
                {
                    "name": stage.name,
                    "rows": stage.rows,
                    "seconds": round(stage.seconds, 3),
                    "rows_per_second": round(stage.rows / stage.seconds, 1)
                    if stage.seconds
                    else None,
                }
                for stage in report.stages
            ],
        },
        indent=2,
    )


def as_table(report: Report) -> str:
    """The report as text for a terminal."""
    lines = [report.title, "=" * len(report.title), ""]
    for name, value in report.facts.items():
        if not value and not report.facts["attempts"]:
            # A market that was only matched has nothing to say about work.
            continue
        shown = f"{value:.2%}" if name.endswith("_share") else _plain(value)
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>14}")
    lines.append("")
    for name, amount in report.money.items():
        if not amount:
            continue
        if name.endswith(("_minor", "_minor_per_hour")):
            label = name.replace("_minor", "").replace("_", " ") + " USD"
            lines.append(f"  {label:<28}{amount / 100:>14,.2f}")
        elif name.endswith("_s"):
            lines.append(f"  {name[:-2].replace('_', ' ') + ' hours':<28}{amount / 3600:>14,.2f}")
        else:
            lines.append(f"  {name.replace('_', ' '):<28}{amount:>14}")
    lines += ["", f"  {'stage':<28}{'rows':>9}{'seconds':>10}{'rows/s':>10}"]
    for stage in report.stages:
        rate = f"{stage.rows / stage.seconds:,.0f}" if stage.seconds else "-"
        lines.append(f"  {stage.name:<28}{stage.rows:>9}{stage.seconds:>10.2f}{rate:>10}")
    lines.append("")
    for check in report.checks:
        lines.append(f"  {'holds ' if check.holds else 'BROKEN'}  {check.claim}  ({check.seen})")
    lines += [f"  note    {note}" for note in report.notes]
    return "\n".join(lines)
