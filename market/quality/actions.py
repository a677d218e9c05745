"""What is learned of verdicts: abilities, difficulties, and new versions of the stump model."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, emit
from market.predictions.actions import learn_outcomes, tell_abilities
from market.predictions.models import StumpPresent
from market.predictions.queries import present, readable
from market.predictions.rules import ToldRelease, code_of, day_of, pairs_at
from market.quality.models import (
    FrontierAlarm,
    FrontierState,
    ItemBelief,
    ReviewerReliability,
    VoteMerit,
)
from market.quality.queries import (
    Ballot,
    Cell,
    Standing,
    ballots_of,
    ballots_of_queue,
    highest_level,
    last_alarm_seq,
    opening_before,
    outcome_of_offer,
    outcome_of_verdict,
    outcomes_beside,
    people_of,
    standing,
    tried,
    unlearned,
)
from market.quality.rules import soft, weeks_of
from matching.attempts import Attempts
from matching.problem import Int64

if TYPE_CHECKING:
    from matching.ability import StumpModel
    from matching.agreement import Consensus
    from matching.complexity import Proposal

VOTED = ("votes", "silence")
"""Verdicts that rest on votes, and are as sure as their voters are reliable."""

FEWEST_BALLOTS = 20
"""Votes of a queue from which reviewers are weighed as they were at the last refit."""

PRIOR_RIGHT, PRIOR_WRONG = 6.0, 2.0
"""What is believed of a reviewer of whom nothing is known, as votes."""

CATCH_UP = 5_000
"""Outcomes that one transaction adds to the log at once."""

FIT_ANEW = 1.5
"""A record so many times as large as the version's own is tuned anew, and not only refitted."""


def observe_verdict(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """Write a verdict into the log of the stump model, once; whether it was not there yet."""
    outcome = outcome_of_verdict(session, submission_id)
    found = standing(session, submission_id)
    if outcome is None or found is None:
        return False
    belief = weigh_votes(session, submission_id, found, at=at)
    # Votes on a panel are of what its project calls a stump, which need not be of its target; and
    # what is known of a check is known whatever the votes say.
    is_of_target = outcome.valid == float(found.is_stump if found.is_tested else found.is_accepted)
    if outcome.valid is not None and found.basis in VOTED and belief is not None and is_of_target:
        valid, weight = soft(belief)
        outcome = replace(outcome, valid=valid, valid_weight=weight)
    is_new = learn_outcomes(session, [outcome, *outcomes_beside(session, submission_id)], at=at) > 0
    if is_new:
        emit(session, Event.VERDICT_WEIGHED, submission_id, at=at, person_id=found.expert_id)
    return is_new


def weigh_votes(
    session: Session, submission_id: UUID, found: Standing, *, at: datetime
) -> float | None:
    """Write how surely a submission holds, and what its votes say of those who cast them.

    None where nobody voted. On questions of judgement nobody is measured by the others.
    """
    ballots = ballots_of(session, submission_id)
    if not ballots:
        return None
    is_open = not found.is_tested
    belief, merits = _weighed(session, ballots, found.domain, is_open=is_open, at=at)
    values: Json = {
        "project_id": found.project_id,
        "domain": found.domain,
        "is_open": is_open,
        "belief": belief,
        "votes": len(ballots),
        "at": at,
    }
    session.execute(
        insert_or(ItemBelief)
        .values(submission_id=submission_id, **values)
        .on_conflict_do_update(index_elements=["submission_id"], set_=values)
    )
    _tell_merits(session, ballots, merits, found.domain, is_open=is_open, at=at)
    _tell_reliability(session, {ballot.reviewer_id for ballot in ballots}, found.domain, at=at)
    return belief


def weighed_queue(
    session: Session, ballots: list[Ballot], domain: str, *, is_open: bool, at: datetime
) -> tuple["Consensus", dict[UUID, int]]:
    """The consensus of the queue of some votes, and the place of each reviewer in it."""
    # Loads scipy, which only the jobs that weigh need.
    from matching.agreement import Consensus
    from matching.votes import UNKNOWN, Votes

    held = session.scalar(select(StumpPresent.since))
    queue = ballots_of_queue(session, domain, is_open=is_open, until=held or at)
    if len(queue) < FEWEST_BALLOTS:
        queue = ballots_of_queue(session, domain, is_open=is_open, until=at) or ballots
    items = {one: n for n, one in enumerate(dict.fromkeys(b.submission_id for b in queue))}
    people = {one: n for n, one in enumerate(sorted({b.reviewer_id for b in queue}))}
    votes = Votes(
        np.array([items[b.submission_id] for b in queue], np.int64),
        np.array([people[b.reviewer_id] for b in queue], np.int64),
        np.array([int(b.says_yes) for b in queue], np.int64),
        items=len(items),
        reviewers=len(people),
        classes=2,
    )
    gold = np.full(len(items), UNKNOWN, np.int64)
    for b in queue:
        if b.gold is not None:
            gold[items[b.submission_id]] = int(b.gold)
    return Consensus().fit(votes, gold), people


def believed(model: "Consensus", people: dict[UUID, int], ballots: list[Ballot]) -> float:
    """How surely one submission holds: what is known of it, else what its votes say."""
    truth = ballots[0].gold
    if truth is not None:
        return float(truth)
    return float(model.posterior_of(*_placed(people, ballots))[1])


def _placed(people: dict[UUID, int], ballots: list[Ballot]) -> tuple[Int64, Int64]:
    """Who voted on one submission, by their places in the queue, and what they said."""
    from matching.votes import UNKNOWN

    who = np.array([people.get(b.reviewer_id, UNKNOWN) for b in ballots], np.int64)
    return who, np.array([int(b.says_yes) for b in ballots], np.int64)


def _weighed(
    session: Session, ballots: list[Ballot], domain: str, *, is_open: bool, at: datetime
) -> tuple[float, list[tuple[float, float | None]]]:
    """The belief in one submission, and of each vote its merit and how surely it was right."""
    from matching.graded import QueueKind
    from matching.scoring import vote_merit
    from matching.votes import UNKNOWN

    model, people = weighed_queue(session, ballots, domain, is_open=is_open, at=at)
    who, label = _placed(people, ballots)
    truth = ballots[0].gold
    belief = believed(model, people, ballots)
    others = np.array(
        [model.posterior_of(np.delete(who, n), np.delete(label, n)) for n in range(len(ballots))]
    )
    known = np.full(len(ballots), UNKNOWN if truth is None else int(truth), np.int64)
    merit = vote_merit(QueueKind.OPEN if is_open else QueueKind.CLOSED, others, label, known)
    # A vote that stands alone, or on a matter of judgement, is measured by nothing.
    is_measured = truth is not None or (not is_open and len(ballots) > 1)
    return belief, [(m, m + 0.5 if is_measured else None) for m in merit.tolist()]


def _tell_merits(
    session: Session,
    ballots: list[Ballot],
    merits: list[tuple[float, float | None]],
    domain: str,
    *,
    is_open: bool,
    at: datetime,
) -> None:
    rows: list[Json] = [
        {
            "review_id": ballot.review_id,
            "reviewer_id": ballot.reviewer_id,
            "domain": domain,
            "is_open": is_open,
            "merit": merit,
            "right": right,
            "at": at,
        }
        # In one order, so that two that write the same rows do not wait for each other.
        for ballot, (merit, right) in sorted(
            zip(ballots, merits, strict=True), key=lambda one: one[0].review_id
        )
    ]
    written = insert_or(VoteMerit).values(rows)
    session.execute(
        written.on_conflict_do_update(
            index_elements=["review_id"],
            set_={name: written.excluded[name] for name in rows[0] if name != "review_id"},
        )
    )


def _tell_reliability(
    session: Session, reviewer_ids: set[UUID], domain: str, *, at: datetime
) -> None:
    from scipy.special import betaincinv

    counted = session.execute(
        select(
            VoteMerit.reviewer_id,
            func.coalesce(func.sum(VoteMerit.right), 0.0),
            func.count(VoteMerit.right),
        )
        .where(VoteMerit.reviewer_id.in_(reviewer_ids), VoteMerit.domain == domain)
        .group_by(VoteMerit.reviewer_id)
        .order_by(VoteMerit.reviewer_id)
    ).all()
    rows: list[Json] = []
    for reviewer_id, right, count in counted:
        sure = float(right or 0.0)
        a, b = PRIOR_RIGHT + sure, PRIOR_WRONG + count - sure
        rows.append(
            {
                "reviewer_id": reviewer_id,
                "domain": domain,
                "accuracy": a / (a + b),
                "low": float(betaincinv(a, b, 0.05)),
                "high": float(betaincinv(a, b, 0.95)),
                "votes": count,
                "at": at,
            }
        )
    written = insert_or(ReviewerReliability).values(rows)
    told = ("accuracy", "low", "high", "votes", "at")
    session.execute(
        written.on_conflict_do_update(
            index_elements=["reviewer_id", "domain"],
            set_={name: written.excluded[name] for name in told},
        )
    )


def observe_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Write an offer that came to nothing into the log, once; whether it was not there yet."""
    outcome = outcome_of_offer(session, offer_id)
    return outcome is not None and learn_outcomes(session, [outcome], at=at) > 0


def tell_of_verdict(session: Session, submission_id: UUID, *, at: datetime) -> None:
    """Write what is believed, after a verdict, of its expert and its task."""
    outcome = outcome_of_verdict(session, submission_id)
    if outcome is not None:
        tell_abilities(session, outcome, at=at)


def catch_up(session: Session, *, at: datetime) -> int:
    """Write what was never learned into the log: what a lost job left, or an older record."""
    found = unlearned(session, limit=CATCH_UP)
    return learn_outcomes(session, found, at=at) if found else 0


def fitted(
    before: bytes, known_rows: int, rows: Attempts, releases: Sequence[ToldRelease] = ()
) -> tuple["StumpModel", float]:
    """A new version from the whole record, and the seconds that it took.

    The version before it lends what it tuned, unless the record has grown so much that it is to be
    tuned anew. A target model that nobody has asked yet is known by what its release told.
    """
    # Loads scipy, which only the job that fits needs.
    from matching.ability import StumpModel
    from matching.archive import NotAVersion

    begun = time.perf_counter()
    try:
        model = StumpModel.from_bytes(before)
    except NotAVersion:
        # Kept by another release of this software: the record is all that is needed.
        model, known_rows = StumpModel(), 0
    if len(rows) > FIT_ANEW * known_rows or not known_rows:
        model.fit(rows)
    else:
        model.refit(rows)
    asked = set(rows.model[np.isfinite(rows.fooled)].tolist())
    for told in releases:
        code = code_of(told.target_model_id)
        if code not in asked:
            model.believe(code, told.effect, told.variance, day=day_of(told.at))
    return model, time.perf_counter() - begun


# The frontier -------------------------------------------------------------------------------------

LEVELS = 10
KEPT = 0.95
"""Share of the experts of a level that ran dry that the next one is to bring back."""

SLOPE, SLOPE_SD = 0.45, 0.2
"""What a level above all that were tried is expected to add to the log-odds of a stump; logits."""

LEAST_SD = 0.05
"""No expert's own log-odds are known better than this, logits."""


def watch_cell(session: Session, cell: Cell, *, at: datetime) -> FrontierAlarm | None:
    """Say, once, that a level has run dry, and which one is proposed instead; nothing is said while
    the stump model's version cannot be read.

    What came since this was asked last is followed, each outcome once, whoever asks how often.
    """
    # Loads scipy, which only the jobs that watch need.
    from matching.frontier import FrontierTracker

    state = _locked_state(session, cell)
    rows = tried(session, cell, after=state.seq)
    if not rows or readable(session) is None:
        return None
    if state.state and any(row.version > 1 for row in rows):
        # A verdict that was corrected was counted as it stood before.
        state.seq, state.state = last_alarm_seq(session, cell), []
        rows = tried(session, cell, after=state.seq)
    follower = FrontierTracker()
    number = follower.take_up(state.state) if state.state else None
    for row in rows:
        state.seq = row.seq
        if row.stump is None:
            continue
        if number is None:
            # A level is dry when it is so against a new version too: it opened with the one before.
            before = opening_before(session, cell, first=follower.opening)
            number = follower.open(at=weeks_of(row.at), opening_rate=before)
        found = follower.observe(number, row.stump, at=weeks_of(row.at))
        if found is None:
            continue
        state.state = []
        said = propose_complexity(session, cell, at=at, is_dry=True)
        alarm_id: UUID | None = session.scalar(
            insert_or(FrontierAlarm)
            .values(
                id=new_id(),
                seq=row.seq,
                domain=cell.domain,
                level=cell.level,
                target_model_id=cell.target_model_id,
                at=at,
                rate=found.rate,
                opening=found.opening,
                evidence=found.evidence,
                productive=said.productive,
                low=said.low,
                high=said.high,
                proposed_level=said.level,
                reason=f"{found.reason}; {said.reason}",
            )
            .on_conflict_do_nothing()
            .returning(FrontierAlarm.id)
        )
        if alarm_id is None:
            return None
        alarm = session.get_one(FrontierAlarm, alarm_id)
        told: Json = {
            "kind": "frontier",
            "domain": cell.domain,
            "complexity": cell.level + 1,
            "proposed_complexity": None if said.level is None else said.level + 1,
            "reason": alarm.reason,
        }
        emit(session, Event.QUALITY_ALERT, alarm_id, at=at, data=told)
        return alarm
    if number is not None:
        state.state = follower.kept(number)
    session.flush()
    return None


def _locked_state(session: Session, cell: Cell) -> FrontierState:
    """What a level's alarm goes on from, nobody else's to go on from meanwhile."""
    key = (cell.domain, cell.level, cell.target_model_id)
    names = ("domain", "level", "target_model_id")
    session.execute(
        insert_or(FrontierState)
        .values(**dict(zip(names, key, strict=True)), seq=last_alarm_seq(session, cell), state=[])
        .on_conflict_do_nothing()
    )
    return session.get_one(FrontierState, key, with_for_update=True, populate_existing=True)


def propose_complexity(
    session: Session, cell: Cell, *, at: datetime, is_dry: bool = False
) -> "Proposal":
    """The smallest complexity that is expected to bring the experts of a cell back.

    Unless it is known to have run dry, a level is kept while half of them still stump there.
    """
    from matching.complexity import propose_level

    people = people_of(session, cell)
    tested = highest_level(session, cell)
    count = len(people)
    known = present(session)
    said = known.predict_many(
        pairs_at(
            [one for one in people for _ in range(LEVELS)],
            [cell.domain] * (count * LEVELS),
            [cell.target_model_id] * (count * LEVELS),
            list(range(LEVELS)) * count,
            np.full((count * LEVELS, 3), np.nan),
            at=at,
        )
    ).stump
    above = np.maximum(np.arange(LEVELS) - tested, 0)
    logit = said.middle.reshape(count, LEVELS) + SLOPE * above
    # What is not known of the model is the same for everybody, and no difference between them.
    common = min(known.model_sd(cell.target_model_id), 20.0)
    own = np.sqrt(np.maximum(said.logit_sd.reshape(count, LEVELS) ** 2 - common**2, LEAST_SD**2))
    shared = known.shared_sd(
        pairs_at(
            [None] * LEVELS,
            [cell.domain] * LEVELS,
            [cell.target_model_id] * LEVELS,
            list(range(LEVELS)),
            np.full((LEVELS, 3), np.nan),
            at=at,
        )
    )
    return propose_level(
        logit,
        np.minimum(own, 20.0),
        minutes=15.0 * 2.0 ** np.arange(LEVELS),
        current=cell.level,
        opening=float(count),
        shared_sd=np.minimum(np.hypot(SLOPE_SD * above, shared), 20.0),
        keep=KEPT if is_dry else 0.8,
        fallen=KEPT if is_dry else 0.5,
    )
