"""The job that runs the matcher: read, solve outside any transaction, record."""

import time
from datetime import timedelta
from uuid import UUID

from market.broker import job
from market.candidates.queries import candidates
from market.candidates.rules import asked_of, expert_ids, input_digest, project_ids, weigh
from market.db import database, now
from market.experiments.queries import trial_for
from market.explanations.queries import prices_of, recorded
from market.explanations.rules import answer_digest, start_prices
from market.operations import end_operation, is_cancelled, report_progress
from market.policies.queries import policy
from market.policies.rules import read_policy
from market.predictions.queries import predictions_for
from market.projects.queries import project
from market.runs.actions import (
    Answer,
    fail_run,
    record_run,
    request_due_run,
    request_run,
    start_run,
)
from market.runs.queries import is_run_pending, run, run_before
from market.settings import in_force

LOOK_EVERY_S = 0.25
"""How often a run that is solving looks whether it was cancelled, and says how far it is."""

STAGES = 4


@job(queue="default")
def match_anew(project_id: str) -> None:
    """A project takes other people than before: unless a run is about to begin, ask for one."""
    with database.begin() as session:
        # Locked, so that two changes at once ask for one run.
        found = project(session, UUID(project_id), lock=True)
        if found.state == "live" and not is_run_pending(session, found.id):
            request_run(session, project_id=found.id, at=now())


@job(queue="default", max_retries=2)
def match_market(slot: str) -> None:
    """The clock's run over everything, as often as the settings say."""
    del slot
    every_s = in_force.settings.match_every_s
    if every_s > 0:
        with database.begin() as session:
            request_due_run(session, every=timedelta(seconds=every_s), at=now())


@job(queue="solver", max_retries=3, time_limit_s=3600)
def run_matching(run_id: str) -> None:
    """Match, and make the offers; a run that died half way left nothing, and begins again."""
    # The solver takes long to load, and only this job needs it.
    from matching.assign import Cancelled, Infeasible, Progress, assign, under_policy
    from matching.problem import ProblemInvalid
    from matching.verify import verify

    found, clock = UUID(run_id), _StageClock()
    with database.begin() as session:
        started = start_run(session, found, at=now())
        if started is None:
            return
        obeyed = policy(session, started.policy_id)
        seed, project_id = started.seed, started.project_id
    _report(found, "reading", 0)
    settings = read_policy(obeyed.document)
    with database.begin() as session:
        at = now()
        seen = candidates(session, settings, project_id=project_id, at=at)
        believed = predictions_for(session, asked_of(seen))
        trial = trial_for(session, obeyed.id, project_id, expert_ids=expert_ids(seen), at=at)
        before = run_before(session, project_id)
        known = None if before is None else prices_of(session, before)
    clock.done("read")
    looked = time.monotonic()

    def cancelled() -> bool:
        nonlocal looked
        if time.monotonic() - looked < LOOK_EVERY_S:
            return False
        looked = time.monotonic()
        with database.begin() as session:
            return run(session, found).state != "running"

    def progress(step: Progress) -> None:
        if step.round < step.rounds and time.monotonic() - looked >= LOOK_EVERY_S:
            _report(found, f"solving, round {step.round} of {step.rounds}", 1)

    try:
        weighed = weigh(seen, believed, settings, seed=seed, trial=trial)
        problem = under_policy(weighed.problem, settings.matcher)
        start = None
        if known is not None:
            start = start_prices(known, problem, seen.expert_ids, project_ids(seen))
        clock.done("weigh")
        _report(found, "solving", 1)
        assignment = assign(
            problem,
            settings.matcher,
            seed=seed,
            start=start,
            progress=progress,
            cancelled=cancelled,
        )
    except Cancelled:
        # Whoever cancelled it has ended the run and its operation.
        return
    except (Infeasible, ProblemInvalid) as refusal:
        code = "infeasible" if isinstance(refusal, Infeasible) else "problem_invalid"
        with database.begin() as session:
            fail_run(session, found, code=code, detail=str(refusal), at=now())
        return
    clock.done("solve")
    _report(found, "checking", 2)
    if wrong := verify(problem, assignment):
        with database.begin() as session:
            fail_run(session, found, code="plan_refused", detail="; ".join(wrong[:5]), at=now())
        return
    told = obeyed.digest if trial is None else f"{obeyed.digest} {trial}"
    digest = input_digest(seen, believed, told, seed)
    clock.done("verify")
    _report(found, "recording", 3)
    warm = None if start is None else before
    answer = Answer(seen, problem, weighed, assignment, digest, clock.seconds, start, warm)
    with database.begin() as session:
        record_run(session, found, answer, at=now())
        clock.done("record")
        run(session, found).seconds = dict(clock.seconds)


@job(queue="solver", max_retries=3, time_limit_s=3600)
def check_run(run_id: str) -> None:
    """Solve a run once more from what it kept, and say whether the answer is the same."""
    # The solver takes long to load, and only this job needs it.
    from matching.assign import Cancelled, assign
    from matching.verify import verify

    found = UUID(run_id)
    with database.begin() as session:
        kept = run(session, found)
        seed, told = kept.seed, kept.answer_digest
        settings = read_policy(policy(session, kept.policy_id).document)
        file = recorded(session, found)
    looked = time.monotonic()

    def cancelled() -> bool:
        nonlocal looked
        if time.monotonic() - looked < LOOK_EVERY_S:
            return False
        looked = time.monotonic()
        with database.begin() as session:
            return is_cancelled(session, found)

    try:
        again = assign(
            file.problem, settings.matcher, seed=seed, start=file.start, cancelled=cancelled
        )
    except Cancelled:
        return
    digest = answer_digest(again)
    with database.begin() as session:
        end_operation(
            session,
            found,
            at=now(),
            result={
                "identical": digest == told,
                "answer_digest": told,
                "found_digest": digest,
                "policy_digest": settings.digest(),
                "seed": str(seed),
                "objective": again.objective,
                "faults": verify(file.problem, file.assignment)[:5],
            },
        )


class _StageClock:
    """How long each stage of a run takes. Units: seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def done(self, stage: str) -> None:
        moment = time.perf_counter()
        self.seconds[stage] = round(moment - self._since, 4)
        self._since = moment


def _report(run_id: UUID, phase: str, done: int) -> None:
    with database.begin() as session:
        report_progress(session, run_id, phase=phase, done=done, total=STAGES, at=now())
