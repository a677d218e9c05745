"""What is believed of pairs before they work: the one place where matching asks for it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Uuid, bindparam, func, or_, select, text
from sqlalchemy.orm import Session

from market.db import Json, now
from market.predictions.models import Observation, StumpPresent, StumpVersion
from market.predictions.rules import (
    BESIDE,
    LEAST_ROWS,
    MIDDLE_LEVEL,
    Asked,
    ObservationNotFound,
    Outcome,
    Predictions,
    Record,
    ToldRelease,
    VersionUnreadable,
    attempts_of,
    code_of,
    day_of,
    pairs_at,
    predicted,
)
from matching.attempts import Attempts
from matching.problem import Float64

if TYPE_CHECKING:
    from matching.ability import Chances, StumpModel
    from matching.release import ModelBelief

# Verdicts are recorded by a feature that stands later in a task's life; they are read as a table,
# for experts by the index on it.
_OF_EXPERTS = text(
    """
    select v.expert_id, t.domain, count(*)::int as decided,
        count(*) filter (where v.is_accepted)::int as accepted
    from market.verdict v join market.task t on t.id = v.task_id
    where v.expert_id = any(:experts)
    group by v.expert_id, t.domain
    """
).bindparams(bindparam("experts", type_=ARRAY(Uuid())))

_OF_SLICES = text(
    """
    select t.project_id, t.domain, t.complexity::int as complexity, count(*)::int as stumps
    from market.verdict v join market.task t on t.id = v.task_id
    where v.is_stump and v.project_id = any(:projects)
    group by t.project_id, t.domain, t.complexity
    """
).bindparams(bindparam("projects", type_=ARRAY(Uuid())))

_OF_ALL = text(
    "select count(*)::int as decided, count(*) filter (where is_accepted)::int as accepted"
    " from market.verdict"
)


def predictions_for(session: Session, asked: Asked) -> Predictions:
    """What is believed of each pair, from abilities as they stand and from verdicts until now."""
    experts = len(asked.expert_ids)
    ids = [UUID(bytes=row.tobytes()) for row in asked.expert_ids]
    number = {found: n for n, found in enumerate(ids)}
    by_domain: dict[str, list[int]] = {}
    by_rung: dict[tuple[UUID, str, int], list[int]] = {}
    for at, one in enumerate(asked.slices):
        by_domain.setdefault(one.domain, []).append(at)
        by_rung.setdefault((one.project_id, one.domain, one.complexity), []).append(at)
    decided, accepted = np.zeros(experts), np.zeros(experts)
    here: dict[int, int] = {}
    for row in session.execute(_OF_EXPERTS, {"experts": ids}):
        expert = number[row.expert_id]
        decided[expert] += row.decided
        accepted[expert] += row.accepted
        for at in by_domain.get(row.domain, ()):
            here[expert * len(asked.slices) + at] = row.decided
    stumps = np.zeros(len(asked.slices))
    projects = list({one.project_id for one in asked.slices})
    for row in session.execute(_OF_SLICES, {"projects": projects}):
        # Whatever model they stumped, the project has failures of this kind already.
        stumps[by_rung.get((row.project_id, row.domain, row.complexity), [])] = row.stumps
    whole = session.execute(_OF_ALL).one()
    key = np.array(sorted(here), np.int64)
    record = Record(
        decided=decided,
        accepted=accepted,
        # Before the first verdict, neither way.
        accepted_share=(whole.accepted + 1) / (whole.decided + 2),
        key=key,
        decided_here=np.array([here[at] for at in key.tolist()], np.float64),
        stumps=stumps,
    )
    plain = predicted(asked, record)
    held = in_force(session)
    if held is None or held.rows < LEAST_ROWS:
        # Too little is known to go by more than the priors.
        return plain
    return _by_model(session, asked, ids, plain)


def _by_model(
    session: Session, asked: Asked, ids: Sequence[UUID], plain: Predictions
) -> Predictions:
    """The same with the stump model's chance in the place of the rule's, and what it does not know.

    Tasks of one slice are alike before anybody has tried them, so that few of the pairs differ.
    """
    at = now()
    width = len(asked.slices)
    key = asked.expert.astype(np.int64) * width + asked.slice
    distinct, where = np.unique(key, return_inverse=True)
    expert, part = distinct // width, distinct % width
    slices = [asked.slices[one] for one in part.tolist()]
    domains = [one.domain for one in slices]
    profile = Profiles(session, ids)
    wanted = pairs_at(
        [ids[one] for one in expert.tolist()],
        domains,
        [one.target_model_id for one in slices],
        [one.complexity - 1 for one in slices],
        profile.columns([ids[one] for one in expert.tolist()], domains),
        at=at,
    )
    known = readable(session)
    if known is None:
        # Kept by another release of this software; the next refit puts one of ours in its place.
        return plain
    said = known.predict_many(wanted).stump
    chance, sd = said.mean[where], said.logit_sd[where]
    return replace(plain, stump=chance, stump_sd=np.minimum(sd * chance * (1 - chance), 0.5))


# The stump model as it is now ---------------------------------------------------------------------


@dataclass
class Present:
    """The version in force with all that was learned since; one copy in each process.

    It takes in the log behind its version, in the order of the log, so that every process comes to
    the same state to the last bit.
    """

    version_id: UUID
    epoch: int
    through: int
    model: "StumpModel"
    guard: threading.Lock = field(default_factory=threading.Lock)

    def predict(self, attempts: Attempts) -> "Chances":
        """What it says, row by row."""
        with self.guard:
            return self.model.predict(attempts)

    def predict_many(self, attempts: Attempts) -> "Chances":
        """What it says of very many rows."""
        with self.guard:
            return self.model.predict_many(attempts)

    def release_prior(
        self, target_model_id: UUID, *, at: datetime, vendor: Sequence[UUID]
    ) -> "ModelBelief":
        """What to expect of a target model that nobody has asked yet."""
        own = np.array([code_of(one) for one in vendor], np.int64)
        with self.guard:
            return self.model.release_prior(code_of(target_model_id), day=day_of(at), vendor=own)

    def without_model(self, attempts: Attempts) -> tuple[Float64, Float64]:
        """Mean and variance of the logit that rows fool a model, its own effect left out."""
        with self.guard:
            return self.model.without_model(attempts)

    def model_sd(self, target_model_id: UUID) -> float:
        """What is not known of a target model's own effect, which moves every expert at once."""
        with self.guard:
            return float(np.sqrt(self.model.model_effect(code_of(target_model_id))[1]))

    def shared_sd(self, attempts: Attempts) -> Float64:
        """What is not known of everybody at once, in the logit of a stump, of each row."""
        with self.guard:
            return self.model.shared_sd(attempts)

    def learn(self, rows: Sequence[Observation]) -> None:
        """Take in the next rows of the log."""
        with self.guard:
            learn_rows(self.model, rows)
            if rows:
                self.through = rows[-1].seq


_held: dict[int, Present] = {}
_holding = threading.Lock()


def in_force(session: Session) -> StumpVersion | None:
    """The version that is in force, if there is one."""
    statement = select(StumpVersion).join(StumpPresent, StumpPresent.version_id == StumpVersion.id)
    return session.scalar(statement)


def present(session: Session) -> Present:
    """The stump model with everything learned that is committed.

    To be asked for only where this transaction has written no outcome of its own.

    Raises:
        VersionUnreadable.
    """
    row = session.execute(select(StumpPresent.version_id, StumpPresent.epoch)).one()
    with _holding:
        found = _held.get(0)
        if found is None or (found.version_id, found.epoch) != (row.version_id, row.epoch):
            version = session.get_one(StumpVersion, row.version_id)
            model = model_of(version)
            found = _held[0] = Present(version.id, row.epoch, version.through, model)
        # Rows that were replaced in an earlier epoch were never learned in this one.
        fresh = _log(session, after=found.through)
        found.learn(fresh)
        return found


def _log(session: Session, *, after: int, before: int | None = None) -> Sequence[Observation]:
    wanted = select(Observation).where(Observation.seq > after, Observation.replaced_at.is_(None))
    if before is not None:
        wanted = wanted.where(Observation.seq < before)
    return session.scalars(wanted.order_by(Observation.seq)).all()


def model_of(version: StumpVersion) -> "StumpModel":
    """A version as it was fitted.

    Raises:
        VersionUnreadable.
    """
    # Loads scipy, which a process that never predicts can do without.
    from matching.ability import StumpModel
    from matching.archive import NotAVersion

    try:
        return StumpModel.from_bytes(version.content)
    except NotAVersion as unread:
        raise VersionUnreadable(version.id) from unread


def readable(session: Session) -> Present | None:
    """The same as `present`, or nothing where the version in force cannot be read."""
    try:
        return present(session)
    except VersionUnreadable:
        return None


def learn_rows(model: "StumpModel", rows: Sequence[Observation]) -> None:
    """Let a model take in rows of the log, in their order."""
    waiting: list[Outcome] = []
    for row in rows:
        if row.kind != "release":
            waiting.append(outcome_of(row))
            continue
        if waiting:
            model.observe(attempts_of(waiting))
            waiting = []
        if row.effect is not None and row.variance is not None:
            code = code_of(row.target_model_id)
            model.believe(code, row.effect, row.variance, day=day_of(row.at))
    if waiting:
        model.observe(attempts_of(waiting))


def outcome_of(row: Observation) -> Outcome:
    """A row of the log as the outcome that it was."""
    if row.project_id is None or row.task_id is None or row.expert_id is None:
        raise ObservationNotFound(row.seq)
    return Outcome(
        kind=row.kind,
        subject_id=row.subject_id,
        version=row.version,
        project_id=row.project_id,
        task_id=row.task_id,
        expert_id=row.expert_id,
        domain=row.domain or "",
        target_model_id=row.target_model_id,
        level=row.level,
        at=row.at,
        start=row.start,
        fooled=row.fooled,
        valid=row.valid,
        valid_weight=row.valid_weight,
        years=row.years,
        qualified=row.qualified,
        tested=row.tested,
    )


def record(session: Session, *, through: int) -> list[Outcome]:
    """All that a refit learns from, up to a place in the log, in the order of its time."""
    wanted = (
        select(Observation)
        .where(
            Observation.seq <= through,
            Observation.kind != "release",
            Observation.replaced_at.is_(None),
        )
        .order_by(Observation.at, Observation.seq)
    )
    return [outcome_of(row) for row in session.scalars(wanted)]


def told_releases(session: Session, *, through: int) -> list[ToldRelease]:
    """What was last told of each new target model, up to a place in the log."""
    rows = session.scalars(
        select(Observation)
        .where(Observation.kind == "release", Observation.seq <= through)
        .order_by(Observation.seq)
    )
    return [
        ToldRelease(row.target_model_id, row.at, row.effect, row.variance)
        for row in rows
        if row.target_model_id is not None and row.effect is not None and row.variance is not None
    ]


def last_seq(session: Session) -> int:
    """The end of the log."""
    return int(session.scalar(select(func.coalesce(func.max(Observation.seq), 0))) or 0)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A prediction as it was kept, and as its version gives it once more."""

    seq: int
    version: str
    kept: float
    again: float

    @property
    def is_equal(self) -> bool:
        """Whether both are the same to the last bit."""
        return self.kept == self.again


def recomputed(session: Session, seq: int) -> Recomputed:
    """Compute a prediction again from its version and the log behind it.

    Raises:
        ObservationNotFound, VersionUnreadable.
    """
    row = session.get(Observation, seq)
    if row is None or row.version_id is None or row.predicted_stump is None:
        raise ObservationNotFound(seq)
    version = session.get_one(StumpVersion, row.version_id)
    model = model_of(version)
    rows = session.scalars(
        select(Observation)
        .where(
            Observation.seq > version.through,
            Observation.seq < seq,
            or_(Observation.replaced_at.is_(None), Observation.replaced_at >= row.observed_at),
        )
        .order_by(Observation.seq)
    ).all()
    learn_rows(model, rows)
    again = model.predict(attempts_of([outcome_of(row)])).stump.mean[0]
    return Recomputed(seq, version.digest.hex(), row.predicted_stump, float(again))


# What it says of people and tasks -----------------------------------------------------------------


class Profiles:
    """What profiles tell the model of experts, by the nearest domain that they claim."""

    def __init__(self, session: Session, experts: Sequence[UUID]) -> None:
        self.of: dict[UUID, dict[str, tuple[float, float, float]]] = {}
        for row in session.execute(_PROFILES, {"experts": list(experts)}):
            tested = np.nan if row.tested is None else float(row.tested)
            self.of.setdefault(row.expert_id, {})[row.domain] = (
                float(row.years),
                float(row.level == "qualified"),
                tested,
            )

    def columns(self, experts: Sequence[UUID], domains: Sequence[str]) -> Float64:
        """Years, whether qualified, and the test's logits, for each pair; (pairs, 3)."""
        known: dict[tuple[UUID, str], tuple[float, float, float]] = {}
        found = np.full((len(experts), 3), np.nan)
        for n, pair in enumerate(zip(experts, domains, strict=True)):
            if pair not in known:
                known[pair] = self._nearest(*pair)
            found[n] = known[pair]
        return found

    def _nearest(self, expert: UUID, domain: str) -> tuple[float, float, float]:
        own = self.of.get(expert, {})
        parts = domain.split(".")
        for depth in range(len(parts), 0, -1):
            said = own.get(".".join(parts[:depth]))
            if said is not None:
                return said
        return (np.nan, np.nan, np.nan)


# Sittings hold what a test said, weakened by what a test cannot know; the last word counts.
_PROFILES = text(
    """
    select d.expert_id, d.domain, d.years, d.level, (
        select s.tested from market.sitting s
        where s.person_id = d.expert_id and s.domain = d.domain and s.tested is not null
        order by s.id desc limit 1) as tested
    from market.expert_domain d
    where d.expert_id = any(:experts)
    """
).bindparams(bindparam("experts", type_=ARRAY(Uuid())))

_WORKED = text(
    """
    select expert_id, domain, target_model_id, count(*)::int as outcomes
    from market.observation
    where expert_id = any(:experts) and replaced_at is null and coalesce(fooled, valid) is not null
    group by expert_id, domain, target_model_id
    """
).bindparams(bindparam("experts", type_=ARRAY(Uuid())))


def abilities_now(
    session: Session, known: Present, experts: Sequence[UUID], *, at: datetime
) -> list[Json]:
    """What is believed of experts in each domain and against each model that they worked on: of
    what they hand in, whichever offers they turned down.
    """
    cells = session.execute(_WORKED, {"experts": list(experts)}).all()
    if not cells:
        return []
    profile = Profiles(session, experts)
    who = [cell.expert_id for cell in cells]
    where = [cell.domain for cell in cells]
    said = known.predict_many(
        pairs_at(
            who,
            where,
            [cell.target_model_id for cell in cells],
            [MIDDLE_LEVEL] * len(cells),
            profile.columns(who, where),
            at=at,
        )
    ).handed_in
    return [
        {
            "expert_id": cell.expert_id,
            "domain": cell.domain,
            "target_model_id": cell.target_model_id,
            "logit": float(said.logit[n]),
            "sd": float(said.logit_sd[n]),
            "chance": float(said.mean[n]),
            "low": float(said.low[n]),
            "high": float(said.high[n]),
            "outcomes": cell.outcomes,
            "version_id": known.version_id,
            "through": known.through,
            "at": at,
        }
        for n, cell in enumerate(cells)
    ]


def difficulty_now(session: Session, known: Present, task_id: UUID, *, at: datetime) -> Json | None:
    """What is believed of a task that somebody has worked on: its model led astray by anybody."""
    row = session.execute(
        select(
            Observation.domain,
            Observation.level,
            Observation.target_model_id,
            func.count().label("outcomes"),
        )
        .where(
            Observation.task_id == task_id,
            Observation.replaced_at.is_(None),
            # A question to a whole panel is one piece of work, against the target.
            Observation.kind != BESIDE,
        )
        .group_by(Observation.domain, Observation.level, Observation.target_model_id)
        .order_by(func.count().desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    anybody = pairs_at(
        [None],
        [row.domain],
        [row.target_model_id],
        [row.level],
        np.full((1, 3), np.nan),
        at=at,
        tasks=[task_id],
    )
    said = known.predict(anybody).fooled
    return {
        "logit": float(said.logit[0]),
        "sd": float(said.logit_sd[0]),
        "outcomes": row.outcomes,
        "at": at,
    }
