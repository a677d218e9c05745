"""Reads of experiments: what runs, who is in scope, and what came of whom it touched."""

from uuid import UUID

import numpy as np
from sqlalchemy import Select, Uuid, func, select, text
from sqlalchemy.orm import Session

from market.experiments.models import Experiment, ExperimentLook, Exposure
from market.experiments.rules import METRICS, ExperimentNotFound, Exposed, Trial
from market.experts.rules import DOMAINS_MEET, WORKING
from market.policies.queries import policy
from market.policies.rules import read_policy

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
    """
)


def experiment(session: Session, experiment_id: UUID, *, lock: bool = False) -> Experiment:
    """One experiment; locked, when it is about to be changed.

    Raises:
        ExperimentNotFound.
    """
    found = session.get(
        Experiment, experiment_id, with_for_update=lock or None, populate_existing=lock
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


def units_in_scope(session: Session, wanted: Experiment) -> list[UUID]:
    """Experts in good standing, or live projects, that an experiment would draw from."""
    if wanted.unit == "expert":
        given = {"domain": wanted.domain, "working": list(WORKING)}
        return list(session.scalars(_EXPERTS.columns(id=Uuid()), given))
    return list(session.scalars(_PROJECTS.columns(id=Uuid()), {"domain": wanted.domain}))


def trial_for(session: Session, policy_id: UUID, project_id: UUID | None) -> Trial | None:
    """The running trial that a run under a policy takes part in; none, when there is none, or when
    the run obeys another policy than the trial's control, or another project's.
    """
    found = session.scalar(
        select(Experiment).where(Experiment.state == "running", Experiment.kind == "policy")
    )
    if found is None or found.control_policy_id != policy_id or found.treated_policy_id is None:
        return None
    projects = None if found.project_id is None else frozenset((found.project_id,))
    if projects is None and found.domain is not None:
        given = {"domain": found.domain}
        projects = frozenset(session.scalars(_PROJECTS.columns(id=Uuid()), given))
    if project_id is not None and projects is not None and project_id not in projects:
        return None
    return Trial(
        experiment_id=found.id,
        unit=found.unit,
        salt=found.salt,
        share=found.share,
        policy=read_policy(policy(session, found.treated_policy_id).document),
        projects=projects,
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


def exposed(session: Session, experiment_id: UUID) -> Exposed:
    """What came of every assignment that an experiment touched, as far as it is known."""
    rows = session.execute(_OUTCOMES, {"experiment": experiment_id}).all()
    over = ("declined", "timed_out", "rescinded", "canceled", "released", "abandoned")
    outcome = {name: np.zeros(len(rows)) for name in METRICS}
    known = {name: np.zeros(len(rows), np.bool_) for name in METRICS}
    for at, row in enumerate(rows):
        ended = row.state in over
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
