"""Votes: what one needs, how votes become a verdict, what is refused; pure.

A majority is strictly more than half of the votes. A submission is accepted unless a majority
rejects it, so a tie is the author's. It is validated when a majority says that the target model
failed, and a stump when it is accepted, validated, and a majority says that the attempt was fair;
here a tie is nobody's proof. Where the project's review plan says so, split votes go to a senior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_high
from uuid import UUID

from market.errors import MarketError
from market.reviews.rules import REASON_CODES, VERDICTS

MIN_REJECTION = 100
"""Characters that the reason of a rejection needs."""

MIN_REMARK = 40
"""Characters that a reviewer needs to say what is missing."""

MOST_POINTS = 1_000
"""What one criterion of a rubric may count for."""

MAX_NOTE = 10_000

MIN_REWORK_S = 900
"""Paid seconds that an offer must have left before its author is asked for more work."""


class RejectionUnfounded(MarketError):
    """A rejection without a coded reason and a hundred characters on it."""

    def __init__(self, field: str) -> None:
        super().__init__(
            "a rejection names a reason_code and says why in a note of at least"
            f" {MIN_REJECTION} characters; {field} does not do"
        )
        self.field = field
        self.reason_codes = list(REASON_CODES)


class VoteIncomplete(MarketError):
    """A vote on an attempt that does not say whether the model failed, and fairly."""

    def __init__(self, field: str) -> None:
        super().__init__(f"this submission has an attempt: its vote needs {field}")
        self.field = field


class VoteUnfit(MarketError):
    """A vote with a figure or a text out of bounds."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class ChecklistUnmet(MarketError):
    """A vote to accept what its project takes only with every check met."""

    def __init__(self, missed: Sequence[str]) -> None:
        super().__init__(
            f"the project's checklist is not met ({'; '.join(missed)}), and it takes nothing"
            " without: ask for rework, or reject with a reason"
        )
        self.unmet = list(missed)


class ReworkRefused(MarketError):
    """Rework that cannot be asked for: too often already, or it would not be paid."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; accept it in part, or decide on it as it is")


@dataclass(frozen=True, slots=True)
class Vote:
    """What one reviewer says of a submission.

    Units: `share` per cent of the work that is accepted; `seconds` of work.
    """

    verdict: str
    model_failed: bool | None = None
    attempt_fair: bool | None = None
    reason_code: str | None = None
    note: str = ""
    seconds: int = 0
    share: int | None = None
    criterion: str | None = None
    task_broken: bool = False
    fix: Mapping[str, object] | None = None
    """The work as the reviewer fixed it, where it accepts it so."""
    met: tuple[str, ...] | None = None
    """Criteria that hold, where the rubric has points: the share is what they come to."""
    panel: Mapping[UUID, bool] | None = None
    """Of each attempt beside the one at the target model, whether its model failed."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes of one level on one submission: how many asked, how many in, and what they say.

    A majority is of the votes that were asked for, so that silence adds to no side.
    """

    needed: int
    votes: int
    rejects: int
    model_failed: int
    attempt_fair: int
    reworks: int = 0
    shares: tuple[int, ...] = ()
    """What each vote accepts, in per cent: 100, its share, or 0."""
    waiting: int = 0
    """Reviews that are still to vote."""
    task_broken: int = 0
    plan_version: int = 0
    fixes: int = 0
    """Fixes that wait for what is decided, of this level and of those below."""

    @property
    def is_complete(self) -> bool:
        """Whether no vote is missing."""
        return self.votes >= self.needed

    @property
    def is_accepted(self) -> bool:
        """Accepted, unless strictly more than half reject."""
        return 2 * self.rejects <= self.needed

    @property
    def is_validated(self) -> bool:
        """Whether strictly more than half say that the model failed."""
        return 2 * self.model_failed > self.needed

    @property
    def is_fair(self) -> bool:
        """Whether strictly more than half say that the attempt was a fair question."""
        return 2 * self.attempt_fair > self.needed

    @property
    def parts(self) -> int:
        """Votes for a part."""
        return sum(0 < share < 100 for share in self.shares)

    @property
    def says(self) -> str:
        """What the votes come to: what a majority finds too little is not taken whole."""
        if not self.is_accepted:
            return "reject"
        if 2 * (self.rejects + self.reworks) > self.needed:
            return "rework"
        if 2 * (self.rejects + self.reworks + self.parts) > self.needed:
            return "accept_share"
        return "accept"

    @property
    def share(self) -> int:
        """The part that is accepted where the votes come to one: the middle of what they say."""
        return median_high(self.shares)

    def is_split(self, *, has_claim: bool, on: str) -> bool:
        """Whether a senior decides: on `ties`, where no word has a majority; on `splits`, where
        not all say the same.
        """
        if on == "never":
            return False
        whole = self.votes - self.rejects - self.reworks - self.parts
        largest = max(whole, self.parts, self.reworks, self.rejects)
        said = [largest]
        if has_claim:
            said += [
                max(self.model_failed, self.votes - self.model_failed),
                max(self.attempt_fair, self.votes - self.attempt_fair),
            ]
        if on == "splits":
            return min(said) < self.votes
        return any(2 * one <= self.needed for one in said)

    def is_certain(self, *, has_claim: bool) -> bool:
        """Whether no vote that is missing could change what is decided."""
        missing = self.needed - self.votes
        low = self.rejects + self.reworks + self.parts
        settled = 2 * self.rejects > self.needed or 2 * (low + missing) <= self.needed
        if not has_claim:
            return settled
        return settled and all(
            2 * yes > self.needed or 2 * (yes + missing) <= self.needed
            for yes in (self.model_failed, self.attempt_fair)
        )


def points_of(payload: Mapping[str, object]) -> dict[str, int]:
    """What each criterion of a task's rubric counts for; nothing unless there are several, each
    under a name of its own, and every one says so.

    Units: points, whole, 1 to `MOST_POINTS`.
    """
    rubric = payload.get("rubric")
    listed = rubric.get("criteria") if isinstance(rubric, Mapping) else None
    names = criteria_of(payload)
    if not isinstance(listed, list) or not 2 <= len(set(names)) == len(listed):
        return {}
    points = [one.get("points") for one in listed]
    if not all(type(one) is int and 1 <= one <= MOST_POINTS for one in points):
        return {}
    return dict(zip(names, points, strict=True))


def share_by_points(vote: Vote, points: Mapping[str, int]) -> Vote:
    """The vote with the share that the points of its criteria come to, where they have points.

    Raises:
        VoteUnfit.
    """
    if vote.verdict != "accept_share" or not points:
        if vote.met is not None:
            raise VoteUnfit("met", "given with accept_share, where the rubric has points")
        return vote
    if vote.met is None:
        raise VoteUnfit("met", "the criteria that hold; the share follows from their points")
    if not set(vote.met) <= points.keys() or len(set(vote.met)) != len(vote.met):
        raise VoteUnfit("met", "each once, of the task's rubric: " + ", ".join(points))
    got, whole = sum(points[one] for one in vote.met), sum(points.values())
    if not 0 < got < whole:
        raise VoteUnfit("met", "some of the criteria; accept if all hold, reject if none does")
    share = min(99, max(1, (200 * got + whole) // (2 * whole)))
    if vote.share not in (None, share):
        raise VoteUnfit("share", f"{share}, as the points of these criteria say, or nothing")
    return replace(vote, share=share)


def check_vote(
    vote: Vote, *, has_attempt: bool, criteria: tuple[str, ...] = (), is_senior: bool = False
) -> None:
    """Refuse a vote that does not say what its kind must say.

    `criteria` are those of the task's rubric; a rejection names one where there are any.

    Raises:
        RejectionUnfounded, VoteIncomplete, VoteUnfit.
    """
    if vote.verdict not in VERDICTS:
        raise VoteUnfit("verdict", "one of " + ", ".join(VERDICTS))
    if not 0 <= vote.seconds <= 24 * 3600:
        raise VoteUnfit("seconds", "0 to 86400")
    if len(vote.note) > MAX_NOTE:
        raise VoteUnfit("note", f"at most {MAX_NOTE} characters")
    if vote.reason_code is not None and vote.reason_code not in REASON_CODES:
        raise VoteUnfit("reason_code", "one of " + ", ".join(REASON_CODES))
    if (vote.verdict == "accept_share") != (vote.share is not None):
        raise VoteUnfit("share", "given with accept_share, and only with it")
    if vote.share is not None and not 1 <= vote.share <= 99:
        raise VoteUnfit("share", "1 to 99 per cent")
    if vote.task_broken and not is_senior:
        raise VoteUnfit("task_broken", "left to whoever adjudicates")
    if vote.criterion is not None and vote.criterion not in criteria:
        raise VoteUnfit("criterion", "one of the task's rubric: " + (", ".join(criteria) or "none"))
    if vote.verdict == "reject":
        if vote.reason_code is None:
            raise RejectionUnfounded("reason_code")
        if len(vote.note.strip()) < MIN_REJECTION:
            raise RejectionUnfounded("note")
        if criteria and vote.criterion is None:
            raise RejectionUnfounded("criterion")
    if vote.fix is not None:
        if vote.verdict != "accept":
            raise VoteUnfit("fix", "given with accept, and only with it")
        if len(vote.note.strip()) < MIN_REMARK:
            raise VoteUnfit("note", f"at least {MIN_REMARK} characters on what was fixed, and why")
    if vote.verdict in ("accept_share", "rework") and len(vote.note.strip()) < MIN_REMARK:
        raise VoteUnfit("note", f"at least {MIN_REMARK} characters on what is missing")
    if has_attempt:
        for field in ("model_failed", "attempt_fair"):
            if getattr(vote, field) is None:
                raise VoteIncomplete(field)


def criteria_of(payload: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the criteria in a task's rubric; none where it has no rubric."""
    rubric = payload.get("rubric")
    listed = rubric.get("criteria") if isinstance(rubric, Mapping) else None
    if not isinstance(listed, list):
        return ()
    names = (one.get("id") for one in listed if isinstance(one, Mapping))
    return tuple(name for name in names if isinstance(name, str))
