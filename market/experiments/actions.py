"""How an experiment comes to be, begins, touches offers, is looked at, and ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, insert, text
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, change_state
from market.experiments.models import Experiment, ExperimentLook, Exposure
from market.experiments.queries import (
    OVER,
    experiment,
    exposed,
    next_look,
    raise_of,
    running_experiments,
    scope_read,
    scopes_of,
    taken_in,
    units_in_scope,
)
from market.experiments.rules import (
    CANARY,
    EXPERIMENT,
    PAST,
    UNITS,
    CohortEmpty,
    Design,
    ExperimentBegun,
    ExperimentInvalid,
    ExperimentOverlaps,
    Looked,
    arm_of,
    effect_told,
    is_treated,
    look,
)
from market.language import to_json
from market.policies.actions import choose_default_policy
from market.policies.queries import approval_wanted, default_policy, policy
from market.policies.rules import ApprovalMissing
from market.projects.queries import project

_BEGIN_ALONE = text("select pg_advisory_xact_lock(hashtextextended('experiment ' || :kind, 7))")

# Runs belong to a feature that stands later in a task's life; they are read as a table.
_OBEYED = (
    text("select id, policy_id from market.matching_run where id = any(:runs)")
    .bindparams(bindparam("runs", type_=ARRAY(Uuid())))
    .columns(id=Uuid(), policy_id=Uuid())
)

# What was known when the experiment began, whatever came of it since.
_KEEP_PAST = """
    insert into market.experiment_past (experiment_id, unit_id, outcomes, predicted)
    select :experiment, unit_id, jsonb_build_object(
        'stump', jsonb_build_array(stump, stump_count),
        'accepted', jsonb_build_array(accepted, accepted_count),
        'rejected', jsonb_build_array(rejected, rejected_count),
        'wait_h', jsonb_build_array(wait_h, wait_h_count),
        'work_h', jsonb_build_array(work_h, work_h_count)), predicted
    from (select o.{unit}_id as unit_id,
        count(*) filter (where v.is_decided or o.is_over) as stump_count,
        count(*) filter (where v.is_decided and v.is_stump) as stump,
        count(*) filter (where o.is_accepted or o.is_over) as accepted_count,
        count(*) filter (where o.is_accepted) as accepted,
        count(*) filter (where v.is_decided) as rejected_count,
        count(*) filter (where v.is_decided and not v.is_accepted) as rejected,
        count(*) filter (where o.is_accepted) as wait_h_count,
        coalesce(sum(extract(epoch from o.accepted_at - o.created_at) / 3600)
            filter (where o.is_accepted), 0) as wait_h,
        count(w.hours) as work_h_count, coalesce(sum(w.hours), 0) as work_h,
        avg(cast(o.parts -> 'stump' ->> 'measured' as double precision)) as predicted
    from (select *, accepted_at < :began as is_accepted,
            state = any(:over) and ended_at < :began as is_over
        from market.offer where created_at >= :since and created_at < :began
            and (cast(:units as uuid[]) is null or {unit}_id = any(:units))) o
    left join market.submission s on s.offer_id = o.id
    left join (select *, decided_at < :began as is_decided from market.verdict) v
        on v.submission_id = s.id
    left join lateral (select sum(x.paid_s + x.capped_s) / 3600.0 as hours
        from market.work_session x where x.offer_id = o.id and x.ended_at < :began) w on true
    group by o.{unit}_id) past
    on conflict do nothing
    """

_KEEP_PAST_OF = {
    unit: text(_KEEP_PAST.format(unit=unit)).bindparams(
        bindparam("experiment", type_=Uuid()),
        bindparam("over", type_=ARRAY(Text())),
        bindparam("units", type_=ARRAY(Uuid())),
    )
    for unit in UNITS
}


@dataclass(frozen=True, slots=True)
class Touched:
    """An offer that was just made: whose it is, for which project, by which run, and the trials
    that its terms were made in.
    """

    offer_id: UUID
    expert_id: UUID
    project_id: UUID
    run_id: UUID
    trials: Sequence[Mapping[str, str]] = ()


def design_experiment(
    session: Session, design: Design, *, author_id: UUID | None, at: datetime
) -> Experiment:
    """Write an experiment down; nothing is tried before it is started. The control of a policy is
    the default of today, unless one is named.

    Raises:
        PolicyNotFound, ProjectNotFound, ExperimentInvalid, ExpressionInvalid, ExpressionTooLarge.
    """
    control = design.control_policy_id
    if design.kind == "policy" and design.treated_policy_id is not None:
        control = policy(session, control or default_policy(session).policy_id).id
        if policy(session, design.treated_policy_id).id == control:
            raise ExperimentInvalid("treated_policy_id", "is the control's own policy")
    if design.project_id is not None:
        project(session, design.project_id)
    made_id = new_id()
    made = Experiment(
        id=made_id,
        name=design.name.strip(),
        kind=design.kind,
        unit=design.unit,
        share=design.share,
        salt=made_id.hex,
        metric=design.metric,
        guardrails=list(design.guardrails),
        reason=design.reason.strip(),
        created_at=at,
        treatment=dict(design.treatment or {}),
        domain=design.domain,
        project_id=design.project_id,
        scope=_scope(design.unit, design.scope),
        control_policy_id=control,
        treated_policy_id=design.treated_policy_id,
        author_id=author_id,
    )
    session.add(made)
    session.flush()
    return made


def change_scope(session: Session, experiment_id: UUID, source: str | None) -> Experiment:
    """Say by an expression whom an experiment is about, or take that back, before it is started.

    Raises:
        ExperimentNotFound, ExperimentBegun, ExpressionInvalid, ExpressionTooLarge.
    """
    found = experiment(session, experiment_id, lock=True)
    if found.state != "draft":
        raise ExperimentBegun(found.state)
    found.scope = _scope(found.unit, source)
    found.version += 1
    session.flush()
    return found


def _scope(unit: str, source: str | None) -> Json | None:
    return None if source is None else to_json(scope_read(unit, source))


def start_experiment(
    session: Session, experiment_id: UUID, *, actor_id: UUID | None, at: datetime
) -> Experiment:
    """Begin; from now on offers are drawn into arms. A policy tried on more than a canary's share
    has to be approved as if it were chosen.

    Raises:
        ExperimentNotFound, StateConflict, CohortEmpty, ExperimentOverlaps, ApprovalMissing.
    """
    found = experiment(session, experiment_id, lock=True)
    EXPERIMENT.target(found.state, "start")
    units = units_in_scope(session, found, at=at)
    treated = sum(is_treated(found.salt, one, found.share) for one in units)
    for arm, size in (("treated", treated), ("control", len(units) - treated)):
        if size == 0:
            raise CohortEmpty(arm, found.unit, len(units), raise_basis_points=raise_of(found))
    # Those of one kind begin one at a time.
    session.execute(_BEGIN_ALONE, {"kind": found.kind})
    if any(one.kind == found.kind for one in running_experiments(session)):
        raise ExperimentOverlaps(found.kind)
    if found.kind == "policy" and found.share > CANARY:
        _expect_approved(session, found)
    found.started_at = at
    if found.scope is not None:
        # At once, because later others may fulfil it, and some may do so because of the trial.
        keep_past(session, found, units)
    change_state(
        session,
        EXPERIMENT,
        found,
        "start",
        at=at,
        event=Event.EXPERIMENT_STARTED,
        actor_id=actor_id,
    )
    return found


def expose(session: Session, offers: Sequence[Touched], *, at: datetime) -> None:
    """Note which arms offers are in that were just made: the log that every estimate rests on.

    A trial of a policy is known by the run; every other by what the offer's own terms were made of.
    """
    running = {found.id: found for found in running_experiments(session)}
    if not running:
        return
    policies = [found for found in running.values() if found.kind == "policy"]
    scopes = scopes_of(session, policies, {one.project_id for one in offers})
    inside = {
        one.id: taken_in(session, one, {_unit(one, offer) for offer in offers}, at=at)
        for one in policies
    }
    obeyed: dict[UUID, UUID] = {}
    if policies:
        runs = list({one.run_id for one in offers})
        obeyed = {row.id: row.policy_id for row in session.execute(_OBEYED, {"runs": runs})}
    rows = []
    for one in offers:
        # A run under a policy of its own takes no part in the trial of another.
        touching = [
            found
            for found in policies
            if one.project_id in scopes[found.id]
            and _unit(found, one) in inside[found.id]
            and obeyed.get(one.run_id) == found.control_policy_id
        ]
        named = {UUID(trial["experiment_id"]) for trial in one.trials if trial["arm"] != "kept"}
        touching += [running[experiment_id] for experiment_id in named if experiment_id in running]
        for found in touching:
            unit = _unit(found, one)
            rows.append(
                {
                    "id": new_id(),
                    "experiment_id": found.id,
                    "offer_id": one.offer_id,
                    "unit_id": unit,
                    "arm": arm_of(found.salt, unit, found.share),
                    "at": at,
                }
            )
    if rows:
        session.execute(insert(Exposure), rows)


def _unit(found: Experiment, offer: Touched) -> UUID:
    return offer.expert_id if found.unit == "expert" else offer.project_id


def look_at_experiment(session: Session, experiment_id: UUID, *, at: datetime) -> Looked | None:
    """Look at what came of a running experiment, write it down, and stop it if it does harm; none,
    when it is not running any more.

    Raises:
        ExperimentNotFound.
    """
    found = experiment(session, experiment_id)
    if found.state != "running":
        return None
    if found.scope is None and next_look(session, found.id) == 1:
        keep_past(session, found)
    seen = look(exposed(session, found), found.metric, found.guardrails)
    # Locked when all is read and computed, and read again: it may have ended meanwhile.
    found = experiment(session, experiment_id, lock=True)
    if found.state != "running":
        return None
    session.execute(
        insert(ExperimentLook),
        {
            "experiment_id": found.id,
            "number": next_look(session, found.id),
            "at": at,
            "exposed": seen.exposed,
            "decision": seen.verdict.decision,
            "reason": seen.verdict.reason,
            "effects": {
                found.metric: effect_told(seen.primary),
                **{f"guard.{name}": effect_told(one) for name, one in seen.guardrails.items()},
                **{f"together.{name}": effect_told(one) for name, one in seen.together.items()},
            },
        },
    )
    if seen.verdict.decision == "stop_harm":
        found.ended_at, found.end_reason = at, seen.verdict.reason
        change_state(
            session,
            EXPERIMENT,
            found,
            "stop",
            at=at,
            event=Event.EXPERIMENT_ENDED,
            reason_code="harm",
            note=seen.verdict.reason,
        )
    return seen


def keep_past(session: Session, found: Experiment, units: Sequence[UUID] | None = None) -> None:
    """Write down what had come of every unit's offers, or of some units', in the months before an
    experiment began.
    """
    if found.started_at is None:
        return
    given = {
        "experiment": found.id,
        "began": found.started_at,
        "since": found.started_at - PAST,
        "over": list(OVER),
        "units": None if units is None else list(units),
    }
    session.execute(_KEEP_PAST_OF[found.unit], given)


def finish_experiment(
    session: Session, experiment_id: UUID, *, reason: str, actor_id: UUID | None, at: datetime
) -> Experiment:
    """End an experiment, drop one that never began, or retire what one has promoted; everybody is
    back in the control.

    Raises:
        ExperimentNotFound, StateConflict, ExperimentInvalid.
    """
    found = experiment(session, experiment_id, lock=True)
    if found.state == "promoted" and found.kind == "policy":
        raise ExperimentInvalid("kind", "a policy that was kept is taken back by a return")
    found.ended_at, found.end_reason = at, reason.strip() or "Ended by hand."
    change_state(
        session,
        EXPERIMENT,
        found,
        {"draft": "drop", "promoted": "retire"}.get(found.state, "finish"),
        at=at,
        event=Event.EXPERIMENT_ENDED,
        actor_id=actor_id,
    )
    return found


def promote_experiment(
    session: Session, experiment_id: UUID, *, reason: str, actor_id: UUID | None, at: datetime
) -> Experiment:
    """Keep what was tried, and end the experiment: a policy becomes the default, all else holds for
    every offer in scope until it is retired.

    Raises:
        ExperimentNotFound, StateConflict, ApprovalMissing.
    """
    found = experiment(session, experiment_id, lock=True)
    EXPERIMENT.target(found.state, "promote")
    if found.kind == "policy" and found.treated_policy_id is not None:
        _expect_approved(session, found)
        choose_default_policy(
            session,
            found.treated_policy_id,
            actor_id=actor_id,
            at=at,
            reason=reason or f"The experiment {found.name} was promoted.",
            how="promoted",
        )
    found.ended_at, found.end_reason = at, reason.strip() or "Promoted."
    change_state(
        session,
        EXPERIMENT,
        found,
        "promote",
        at=at,
        event=Event.EXPERIMENT_ENDED,
        actor_id=actor_id,
    )
    return found


def _expect_approved(session: Session, found: Experiment) -> None:
    if found.treated_policy_id is None or found.control_policy_id is None:
        return
    wanted = policy(session, found.treated_policy_id)
    control = policy(session, found.control_policy_id)
    reasons = approval_wanted(session, wanted, instead_of=control)
    if reasons:
        raise ApprovalMissing(wanted.id, reasons)
