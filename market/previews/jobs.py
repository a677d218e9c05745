"""The job that replays a stretch: read, solve outside any transaction, record."""

import time
from collections.abc import Callable
from uuid import UUID

from market.broker import job
from market.db import Json, database, now
from market.http import wire_id
from market.operations import is_cancelled, report_progress
from market.policies.queries import obeyed_policy, policy
from market.policies.rules import read_policy
from market.previews.actions import end_preview
from market.previews.models import PolicyPreview
from market.previews.queries import preview, recorded_runs, recording
from market.previews.rules import Named, frontier_told, named, preview_told

LOOK_EVERY_S = 0.25
"""How often a preview says how far it is."""


@job(queue="solver", max_retries=2, time_limit_s=3600)
def preview_policy(preview_id: str) -> None:
    """Replay a stretch under a policy, or search for a better one; a repeat changes nothing."""
    # The solver takes long to load, and only jobs need it.
    from matching.assign import Infeasible
    from matching.lottery import CeilingTooLow
    from matching.preview import NothingRecorded, Worthless
    from matching.problem import ProblemInvalid

    found = UUID(preview_id)
    with database.begin() as session:
        asked = preview(session, found)
        if asked.ended_at is not None:
            return
        if is_cancelled(session, found):
            end_preview(session, found, at=now())
            return
        report_progress(session, found, phase="reading", done=0, total=None, at=now())
        runs = recorded_runs(session, asked.since, asked.until, asked.project_id)
    recordings = []
    for run_id in runs:
        # One run a transaction, so that no long one stands open while files are unpacked.
        with database.begin() as session:
            recordings.append(recording(session, run_id, at=now()))
    names = named(recordings)
    problem: Json | None = None
    result: Json | None = None
    try:
        if asked.kind == "search":
            result = _searched(asked, names, _progress(found, "searching"))
        else:
            result = _previewed(asked, names, _progress(found, "replaying"))
    except NotWanted:
        # Whoever cancelled it has ended the operation.
        pass
    except (Worthless, NothingRecorded, Infeasible, ProblemInvalid, CeilingTooLow) as refusal:
        problem = {"code": CODES[type(refusal).__name__], "detail": f"{refusal}."}
    with database.begin() as session:
        end_preview(session, found, at=now(), result=result, problem=problem)


class NotWanted(Exception):
    """Raised from inside the replay, to leave it: the preview was cancelled."""


CODES = {
    "Worthless": "policy_worthless",
    "NothingRecorded": "nothing_recorded",
    "Infeasible": "infeasible",
    "ProblemInvalid": "problem_invalid",
    "CeilingTooLow": "ceiling_too_low",
}
"""What a preview that could not be made is called."""


def _previewed(asked: PolicyPreview, names: Named, progress: Callable[[int, int], None]) -> Json:
    from matching.preview import Candidate, preview

    with database.begin() as session:
        after = read_policy(policy(session, asked.policy_id).document)
        before = read_policy(obeyed_policy(session, asked.project_id).document)
    told = preview(
        names.pasts,
        Candidate(after.matcher, after.default_interest),
        seed=asked.id.int % 2**31,
        progress=progress,
    )
    return preview_told(
        told, names, lambda person: wire_id("per", person), before=before, after=after
    )


def _searched(asked: PolicyPreview, names: Named, progress: Callable[[int, int], None]) -> Json:
    from matching.preview import Candidate
    from matching.tuning import Goal, search

    with database.begin() as session:
        today = read_policy(policy(session, asked.policy_id).document)
    domain = asked.asked["domain"]
    # A domain that no run has seen fills no seat, and the answer says so.
    group = None
    if domain is not None:
        group = names.domains.index(domain) if domain in names.domains else len(names.domains)
    told = search(
        names.pasts,
        Candidate(today.matcher, today.default_interest),
        goal=Goal(asked.asked["goal_fill"], group),
        knobs=asked.asked["knobs"],
        evaluations=asked.asked["evaluations"],
        seed=asked.id.int % 2**31,
        progress=progress,
    )
    return frontier_told(told, today, goal_fill=asked.asked["goal_fill"], domain=domain)


def _progress(preview_id: UUID, phase: str) -> Callable[[int, int], None]:
    looked = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal looked
        if time.monotonic() - looked < LOOK_EVERY_S:
            return
        looked = time.monotonic()
        with database.begin() as session:
            report_progress(session, preview_id, phase=phase, done=done, total=total, at=now())
            if is_cancelled(session, preview_id):
                raise NotWanted

    return tell
