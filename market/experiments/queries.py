"""Reads of experiments: what runs, who is in scope, and what came of whom it touched."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import Select, Uuid, func, select, text
from sqlalchemy.orm import Session

from market.db import PLATFORM, Json, run_as
from market.experiments.models import Experiment, ExperimentLook, Exposure, UnitPast
from market.experiments.rules import (
    METRICS,
    ExperimentNotFound,
    Exposed,
    Guidance,
    Raise,
    Trial,
    Tried,
    UnitsPast,
    arm_of,
    guidance_of,
    is_treated,
)
from market.experts.rules import DOMAINS_MEET, EXPERT_FIELDS, WORKING
from market.filters import compiled
from market.grammar import parse
from market.language import Expression, from_json
from market.policies.queries import policy
from market.policies.rules import read_policy
from market.projects.models import Project
from market.projects.rules import PROJECT_FIELDS

# Offers, submissions, verdicts and work belong to features that stand later in a task's life; they
# are read as tables.
_OUTCOMES = text(
    """
    select x.unit_id, x.arm = 'treated' as treated, o.state, o.accepted_at is not null as accepted,
        extract(epoch from o.accepted_at - o.created_at) / 3600 as wait_h,
        v.submission_id is not null as decided, coalesce(v.is_stump, false) as stump,
        coalesce(not v.is_accepted, false) as rejected,
        (select sum(w.paid_s + w.capped_s) / 3600.0 from market.work_session w
            where w.offer_id = o.id and w.ended_at is not null) as work_h
    from market.experiment_exposure x
    join market.offer o on o.id = x.offer_id
    left join market.submission s on s.offer_id = o.id
    left join market.verdict v on v.submission_id = s.id
    where x.experiment_id = :experiment
    order by x.id
    """
)

OVER = ("declined", "timed_out", "rescinded", "canceled", "released", "abandoned")
"""How an offer ends of which no work comes."""

_IN_SCOPE = """
    select e.id from market.expert e where e.state = any(:working)
        and (cast(:domain as text) is null or exists (select from market.expert_domain d
            where d.expert_id = e.id and {meets}))
    """

_EXPERTS = text(
    _IN_SCOPE.format(meets=DOMAINS_MEET.format(one="d.domain", other="cast(:domain as text)"))
)

_PROJECTS = text(
    """
    select p.id from market.project p where p.state = 'live'
        and (cast(:domain as text) is null or cast(:domain as text) = any(p.domains))
        and p.trial_raise_basis_points >= :raise
    """
)

_FIELDS = {"expert": EXPERT_FIELDS, "project": PROJECT_FIELDS}

_FULFILLING = """
    select u.id from market.{unit} u where u.id = any(:units) and ({condition} or exists (
        select from market.experiment_exposure x
        where x.unit_id = u.id and x.experiment_id = :experiment))
    """


def experiment(session: Session, experiment_id: UUID, *, lock: bool = False) -> Experiment:
    """One experiment; locked, when it is about to be changed.

    Raises:
        ExperimentNotFound.
    """
    # Not against those who note that an offer of theirs is in it.
    key_share = {"key_share": True} if lock else None
    found = session.get(
        Experiment, experiment_id, with_for_update=key_share, populate_existing=lock
    )
    if found is None:
        raise ExperimentNotFound(experiment_id)
    return found


def experiments(state: str | None = None) -> Select[Experiment]:
    """All experiments, or those in a state, as a statement to page through."""
    statement = select(Experiment)
    return statement if state is None else statement.where(Experiment.state == state)


def running_experiments(session: Session) -> list[Experiment]:
    """What is being tried now."""
    return list(
        session.scalars(
            select(Experiment).where(Experiment.state == "running").order_by(Experiment.id)
        )
    )


def units_in_scope(session: Session, wanted: Experiment, *, at: datetime) -> list[UUID]:
    """Experts in good standing, or live projects, that an experiment would draw from."""
    if wanted.unit == "expert":
        given: Json = {"domain": wanted.domain, "working": list(WORKING)}
        found = list(session.scalars(_EXPERTS.columns(id=Uuid()), given))
    else:
        given = {"domain": wanted.domain, "raise": raise_of(wanted)}
        found = list(session.scalars(_PROJECTS.columns(id=Uuid()), given))
    inside = taken_in(session, wanted, found, at=at)
    return [one for one in found if one in inside]


def scope_read(unit: str, source: str) -> Expression:
    """An expression about the units of an experiment.

    Raises:
        ExpressionInvalid, ExpressionTooLarge.
    """
    return parse(source, _FIELDS[unit])


def taken_in(
    session: Session, found: Experiment, units: Collection[UUID], *, at: datetime
) -> set[UUID]:
    """Those of some units for which an experiment's expression holds, or which it has touched:
    whoever fulfils it no longer keeps its arm, else its outcomes would be lost to one arm only.
    All of them, where it has no expression. Runs as the platform.
    """
    if found.scope is None or not units:
        return set(units)
    tree = from_json(found.scope).tree
    made = compiled(tree, _FIELDS[found.unit], row="u", at=at, prefix="scope")
    statement = text(_FULFILLING.format(unit=found.unit, condition=made.sql)).columns(id=Uuid())
    given = {**made.values, "units": list(units), "experiment": found.id}
    return set(session.scalars(statement, given))


def raise_of(found: Experiment) -> int:
    """The raise that projects have to allow to take part; 0 where no pay is tried.

    Units: hundredths of a per cent.
    """
    return int(found.treatment["raise_basis_points"]) if found.kind == "pay" else 0


def scopes_of(
    session: Session, found: Sequence[Experiment], project_ids: Collection[UUID]
) -> dict[UUID, set[UUID]]:
    """Which of some projects each experiment is about: its own or its field's, and for pay those
    whose lab allows the raise.
    """
    if not found or not project_ids:
        return {one.id: set() for one in found}
    rows = session.execute(
        select(Project.id, Project.domains, Project.trial_raise_basis_points).where(
            Project.id.in_(project_ids)
        )
    ).all()
    return {
        one.id: {
            row.id
            for row in rows
            if one.project_id in (None, row.id)
            and (one.domain is None or one.domain in row.domains)
            and row.trial_raise_basis_points >= raise_of(one)
        }
        for one in found
    }


def arms_for(
    session: Session,
    pairs: Sequence[tuple[UUID, UUID]],
    kinds: Sequence[str],
    *,
    at: datetime,
) -> list[tuple[Tried, ...]]:
    """The arms of each expert and project in what is tried of these kinds, and what was kept of
    earlier trials: what is tried now stands in for it in its treated arm.
    """
    found = session.scalars(
        select(Experiment)
        .where(Experiment.kind.in_(kinds), Experiment.state.in_(("promoted", "running")))
        # What was promoted last counts, and what is tried now before it.
        .order_by(Experiment.state.desc(), Experiment.ended_at.desc(), Experiment.id)
    ).all()
    scopes = scopes_of(session, found, {project_id for _, project_id in pairs})
    units = {
        "expert": {expert_id for expert_id, _ in pairs},
        "project": {project_id for _, project_id in pairs},
    }
    inside = {one.id: taken_in(session, one, units[one.unit], at=at) for one in found}
    told = []
    for expert_id, project_id in pairs:
        arms: list[Tried] = []
        settled: set[tuple[str, object]] = set()
        for one in found:
            about = (one.kind, one.treatment.get("tool"))
            unit = expert_id if one.unit == "expert" else project_id
            if project_id not in scopes[one.id] or unit not in inside[one.id] or about in settled:
                continue
            arm = "kept" if one.state == "promoted" else arm_of(one.salt, unit, one.share)
            arms.append(Tried(one.id, one.kind, arm, one.treatment))
            # Of several raises the largest counts; of all else the first that is given.
            if arm != "control" and one.kind != "pay":
                settled.add(about)
        told.append(tuple(arms))
    return told


def raises_for(session: Session, project_ids: Sequence[UUID], *, at: datetime) -> dict[UUID, Raise]:
    """What trials of pay, running or kept, add to the rates of projects; the largest counts, so
    that no arm is paid less than what is in force.
    """
    # Pay is tried by project, so that the expert plays no part.
    arms = arms_for(session, [(one, one) for one in project_ids], ("pay",), at=at)
    return {
        project_id: Raise(
            max(
                (int(str(a.treatment["raise_basis_points"])) for a in found if a.arm != "control"),
                default=0,
            ),
            found,
        )
        for project_id, found in zip(project_ids, arms, strict=True)
        if found
    }


def guidance_for(session: Session, terms: Json, payload: Json) -> Guidance:
    """What an offer's expert gets with its task, by the arms that its terms were made in.

    Those name experiments, whose treatments never change: what was offered is what is delivered.
    """
    return guidances_for(session, [(terms, payload)])[0]


def guidances_for(session: Session, offered: Sequence[tuple[Json, Json]]) -> list[Guidance]:
    """The same for many offers, each by its terms and its task's payload."""
    arms = [
        {UUID(one["experiment_id"]): one["arm"] for one in terms.get("trials") or ()}
        for terms, _ in offered
    ]
    named = set().union(*arms)
    found = {}
    if named:
        # As the platform, because what is tried is for ops to read.
        with run_as(session, PLATFORM):
            rows = session.execute(
                select(Experiment.id, Experiment.kind, Experiment.treatment).where(
                    Experiment.id.in_(named)
                )
            )
            found = {row.id: row for row in rows}
    return [
        guidance_of(
            [Tried(one, found[one].kind, arm, found[one].treatment) for one, arm in mine.items()],
            payload,
            draft_field=terms.get("draft_field"),
        )
        for mine, (terms, payload) in zip(arms, offered, strict=True)
    ]


def trial_for(
    session: Session,
    policy_id: UUID,
    project_id: UUID | None,
    *,
    expert_ids: Collection[UUID],
    at: datetime,
) -> Trial | None:
    """The running trial that a run of some experts under a policy takes part in; none, when there
    is none, or when the run obeys another policy than the trial's control, or another project's.
    """
    found = session.scalar(
        select(Experiment).where(Experiment.state == "running", Experiment.kind == "policy")
    )
    if found is None or found.control_policy_id != policy_id or found.treated_policy_id is None:
        return None
    projects = None if found.project_id is None else frozenset((found.project_id,))
    by_project = found.unit == "project" and found.scope is not None
    if projects is None and (found.domain is not None or by_project):
        given = {"domain": found.domain, "raise": 0}
        projects = frozenset(session.scalars(_PROJECTS.columns(id=Uuid()), given))
    if projects is not None and by_project:
        projects = frozenset(taken_in(session, found, projects, at=at))
    if project_id is not None and projects is not None and project_id not in projects:
        return None
    return Trial(
        experiment_id=found.id,
        unit=found.unit,
        salt=found.salt,
        share=found.share,
        policy=read_policy(policy(session, found.treated_policy_id).document),
        projects=projects,
        experts=frozenset(taken_in(session, found, expert_ids, at=at))
        if found.unit == "expert" and found.scope is not None
        else None,
    )


def exposures(experiment_id: UUID) -> Select[Exposure]:
    """Whom an experiment touched, as a statement to page through."""
    return select(Exposure).where(Exposure.experiment_id == experiment_id)


def looks(session: Session, experiment_id: UUID) -> list[ExperimentLook]:
    """Every look at an experiment, the newest first, a hundred at most."""
    return list(
        session.scalars(
            select(ExperimentLook)
            .where(ExperimentLook.experiment_id == experiment_id)
            .order_by(ExperimentLook.number.desc())
            .limit(100)
        )
    )


def next_look(session: Session, experiment_id: UUID) -> int:
    """The number of the look to come."""
    last = session.scalar(
        select(func.max(ExperimentLook.number)).where(ExperimentLook.experiment_id == experiment_id)
    )
    return (last or 0) + 1


def exposed(session: Session, found: Experiment) -> Exposed:
    """What came of every assignment that an experiment touched, as far as it is known."""
    rows = session.execute(_OUTCOMES, {"experiment": found.id}).all()
    outcome = {name: np.zeros(len(rows)) for name in METRICS}
    known = {name: np.zeros(len(rows), np.bool_) for name in METRICS}
    for at, row in enumerate(rows):
        ended = row.state in OVER
        for name, is_known, amount in (
            ("stump", row.decided or ended, row.stump),
            ("accepted", row.accepted or ended, row.accepted),
            ("rejected", row.decided, row.rejected),
            ("wait_h", row.accepted, row.wait_h or 0),
            ("work_h", row.work_h is not None, row.work_h or 0),
        ):
            known[name][at] = is_known
            outcome[name][at] = float(amount)
    return Exposed(
        unit=tuple(row.unit_id for row in rows),
        treated=np.array([row.treated for row in rows], np.bool_),
        outcome=outcome,
        known=known,
        past=units_past(session, found),
    )


def units_past(session: Session, found: Experiment) -> UnitsPast | None:
    """What had come of every unit's offers when an experiment began, as its first look kept it;
    none where nobody had an offer.
    """
    rows = session.scalars(
        select(UnitPast).where(UnitPast.experiment_id == found.id).order_by(UnitPast.unit_id)
    ).all()
    if not rows:
        return None
    return UnitsPast(
        unit=tuple(row.unit_id for row in rows),
        treated=np.array([is_treated(found.salt, row.unit_id, found.share) for row in rows]),
        total={name: np.array([row.outcomes[name][0] for row in rows]) for name in METRICS},
        count={name: np.array([row.outcomes[name][1] for row in rows]) for name in METRICS},
        # A missing prediction is a null, and so NaN.
        predicted=np.array([row.predicted for row in rows], np.float64),
    )


def variants(session: Session, offer_id: UUID) -> list[tuple[Exposure, Experiment]]:
    """The arms that an offer is in, of experiments of every kind."""
    rows = session.execute(
        select(Exposure, Experiment)
        .join(Experiment, Experiment.id == Exposure.experiment_id)
        .where(Exposure.offer_id == offer_id)
        .order_by(Exposure.id)
    )
    return [(exposure, found) for exposure, found in rows]
