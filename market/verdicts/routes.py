"""How a project goes, over HTTP; and a verdict as it travels."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, read_id
from market.offers.queries import offer, own_offer
from market.projects.queries import project
from market.verdicts.models import Verdict
from market.verdicts.queries import lab_rejections, progress
from market.verdicts.rules import FEWEST_DECIDED, Share, rejections_told


class VerdictOut(Wire):
    """What was decided on a submission, on what grounds; `share` per cent of it is accepted."""

    is_accepted: bool
    share: int
    basis: str
    is_tested: bool
    is_validated: bool
    is_stump: bool
    is_silent: bool
    votes: int
    rejects: int
    decided_at: datetime


class ShareOut(Wire):
    """A share with the interval in which the true one lies, 95 times in 100 (Wilson)."""

    part: int
    whole: int
    value: float | None
    low: float
    high: float


class VolumeOut(Wire):
    """How much there is."""

    tasks: int
    tasks_open: int
    tasks_in_review: int
    tasks_accepted: int
    attempts: int
    attempts_failed: int
    submitted: int
    awaiting_verdict: int
    decided: int
    tested: int
    recorded_s: int


class SpeedOut(Wire):
    """How fast it goes; times in seconds."""

    submissions_per_day: float
    first_submitted_at: datetime | None
    last_submitted_at: datetime | None
    median_work_s: float | None
    median_verdict_s: float | None


class QualityOut(Wire):
    """How good it is: of verdicts, the accepted; of those with an attempt, the others."""

    accepted: ShareOut
    validated: ShareOut
    stumps: ShareOut


class ProgressOut(Wire):
    """How a project goes, counted from its rows at this moment."""

    project_id: str
    at: datetime
    volume: VolumeOut
    speed: SpeedOut
    quality: QualityOut


@get("/projects/{project_id:str}/progress", scope="project:read", tags=["Projects"])
def get_progress(project_id: FromPath[str]) -> ProgressOut:
    """How a project goes: volume, speed and quality, counted from its rows."""
    at = now()
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        seen = progress(session, found.id, at=at)
    return ProgressOut(
        project_id=project_id,
        at=at,
        volume=VolumeOut(
            tasks=seen.tasks,
            tasks_open=seen.tasks_open,
            tasks_in_review=seen.tasks_in_review,
            tasks_accepted=seen.tasks_accepted,
            attempts=seen.attempts,
            attempts_failed=seen.attempts_failed,
            submitted=seen.submitted,
            awaiting_verdict=seen.awaiting_verdict,
            decided=seen.decided,
            tested=seen.tested,
            recorded_s=seen.recorded_s,
        ),
        speed=SpeedOut(
            submissions_per_day=seen.submissions_per_day,
            first_submitted_at=seen.first_submitted_at,
            last_submitted_at=seen.last_submitted_at,
            median_work_s=seen.median_work_s,
            median_verdict_s=seen.median_verdict_s,
        ),
        quality=QualityOut(
            accepted=share_out(seen.accepted),
            validated=share_out(seen.validated),
            stumps=share_out(seen.stumps),
        ),
    )


class RejectionsOut(Wire):
    """How much of the work decided for an offer's lab is rejected; null while too little is decided
    to tell. `told` says it in a sentence.
    """

    offer_id: str
    rejected: ShareOut | None
    told: str


@get("/offers/{offer_id:str}/rejections", scope="offer:read", tags=["Offers"])
def get_offer_rejections(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> RejectionsOut:
    """How much the lab behind an offer of yours rejects of what is handed in to it."""
    wanted = read_id("ofr", offer_id)
    # As the platform, since it counts everybody's work; the offer is the caller's own.
    with database.begin(PLATFORM) as session:
        if principal.part is Part.OPS:
            asked = offer(session, wanted)
        else:
            asked = own_offer(session, wanted, principal.person_id)
        found = lab_rejections(session, asked.organisation_id)
    return RejectionsOut(
        offer_id=offer_id,
        rejected=share_out(found) if found.whole >= FEWEST_DECIDED else None,
        told=rejections_told(found),
    )


def verdict_out(row: Verdict) -> VerdictOut:
    """A verdict as it travels."""
    return VerdictOut(
        is_accepted=row.is_accepted,
        share=row.share,
        basis=row.basis,
        is_tested=row.is_tested,
        is_validated=row.is_validated,
        is_stump=row.is_stump,
        is_silent=row.is_silent,
        votes=row.votes,
        rejects=row.rejects,
        decided_at=row.decided_at,
    )


def share_out(share: Share) -> ShareOut:
    """A share as it is told."""
    return ShareOut(
        part=share.part, whole=share.whole, value=share.value, low=share.low, high=share.high
    )


ROUTES: list[HTTPRouteHandler] = [get_progress, get_offer_rejections]
