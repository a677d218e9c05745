"""Which events a person is told of, in which words, and when a digest is due; pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from market.errors import MarketError


class Mail(StrEnum):
    """Whether a notification is also sent by e-mail."""

    NOW = "now"
    DIGEST = "digest"
    NEVER = "never"


class Digest(StrEnum):
    """How often what waits for a digest is sent."""

    DAILY = "daily"
    WEEKLY = "weekly"


class Audience(StrEnum):
    """Who is told: the person an event concerns, the people of its lab, ops, or two of these."""

    PERSON = "person"
    LAB = "lab"
    PERSON_AND_LAB = "person and lab"
    OPS = "ops"
    LAB_AND_OPS = "lab and ops"


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are told of one type of event; a topic is what they can choose by."""

    topic: str
    audience: Audience
    mail: Mail
    title: str
    text: str


def _now(title: str, text: str) -> tuple[Mail, str, str]:
    return Mail.NOW, title, text


def _digest(title: str, text: str) -> tuple[Mail, str, str]:
    return Mail.DIGEST, title, text


_TOLD: dict[tuple[str, Audience], dict[str, tuple[Mail, str, str]]] = {
    ("offers", Audience.PERSON): {
        "offer.created": _now("You have an offer", "A task waits for your answer."),
        "offer.timed_out": _digest(
            "An offer ran out",
            "Until you answer one, yes or no, you may hold one task fewer. Nothing else follows.",
        ),
        "offer.rescinded": _digest("An offer was taken back", "Nothing is held against you."),
        "offer.canceled": _digest("An offer was withdrawn", "Its task ended; nothing counts."),
    },
    ("work", Audience.PERSON): {
        "offer.abandoned": _now(
            "Your task went back", "We no longer heard from it; your time is paid."
        ),
        "offer.released": _now(
            "A task is no longer yours",
            "Read why; minutes that you worked are paid, and nothing counts against you.",
        ),
        "return_request.asked": _now(
            "A task is asked back", "Give it back or say why you keep it; your minutes are paid."
        ),
        "return_request.ended": _now(
            "A request for a task has ended", "Read what it came to; your minutes are paid."
        ),
        "session.idle": _now("Are you still working?", "Your session will end unless you go on."),
        "session.idle_warning": _now(
            "Are you still working?", "Your session will end unless you go on."
        ),
        "session.ended": _digest("A work session ended", "Look at the time that was recorded."),
        "time_entry.changed": _now(
            "A time entry changed", "Recorded time of yours was decided upon."
        ),
    },
    ("reviews", Audience.PERSON): {
        "submission.accepted": _now(
            "Your work was accepted", "The verdict and its reasons are there."
        ),
        "submission.partially_accepted": _now(
            "Your work was accepted in part", "The reasons are there."
        ),
        "submission.rejected": _now("Your work was not accepted", "Read why; you may appeal."),
        "submission.rework_requested": _now(
            "Your work came back", "A reviewer asks for changes; they are paid."
        ),
        "submission.screened_out": _digest(
            "A task was not for you", "The screening is paid; nothing counts against you."
        ),
        "submission.unjudged": _now(
            "Your work still waits for people",
            "Its pay no longer does; nothing counts against you.",
        ),
        "submission.returned": _digest("A submission was returned", "Nothing counts against you."),
        "fix.stood": _now(
            "Your work was accepted with a fix", "Read what was changed and why; you may appeal."
        ),
        "fix.withdrawn": _now("Your own words stand again", "The fix of your work was withdrawn."),
        "review.asked": _now(
            "A review waits for you first", "Its author answered; others may take it after a day."
        ),
        "review.waiting": _digest(
            "Work waits for its review", "You may take it; its author's pay may wait for it."
        ),
        "review.expired": _digest(
            "A review went back to the queue", "Its time was over; nothing counts against you."
        ),
        "review.overturned": _now("A verdict of yours was overturned", "An appeal was decided."),
    },
    ("appeals", Audience.PERSON): {
        "appeal.filed": _now("Your appeal is in", "Somebody else looks at it."),
        "appeal.decided": _now("Your appeal was decided", "Read the decision."),
        "appeal.sla_missed": _now("Your appeal took too long", "It was decided in your favour."),
        "fraud_case.opened": _now(
            "A case about your work was opened", "Read it and say your side; nothing is decided."
        ),
        "fraud_case.decided": _now(
            "The case about your work was decided", "The reasons are there; you may appeal."
        ),
        "fraud_case.closed": _now(
            "Your appeal in a case was decided", "Read what it came to, and why."
        ),
    },
    # Of a thread on its work a lab is told as one, and everybody else as a person.
    ("threads", Audience.LAB): {
        "thread.opened": _now("Somebody asks about a piece of work", "Read it, and answer."),
        "thread.answered": _now("There is an answer in a thread", "Read it in its place."),
        "thread.resolved": _digest("A thread was resolved", "It can be opened again."),
        "thread.reopened": _digest("A thread was opened again", "Read why."),
    },
    ("standing", Audience.PERSON): {
        "standing.changed": _now("Your standing changed", "The reasons are there; you may appeal."),
        "tier.announced": _now(
            "Your pay tier is to go down", "From when and why is there; you may appeal."
        ),
        "tier.taken_back": _now("Your pay tier stays", "The step down was taken back."),
        "departure.begun": _now(
            "You leave", "Open work goes back, and all that you earned is paid."
        ),
        "departure.changed": _digest("Your departure goes on", "See what it waits for."),
        "departure.done": _now("All is settled", "Your record and statements stay readable."),
        "departure.called_off": _now("You stay", "Work is offered to you again."),
        "admission.admitted": _now(
            "You are admitted", "A paid test waits for you; what you are promised stands beside it."
        ),
        "admission.onboarded": _now("You are in", "By when first work is offered to you is there."),
        "admission.lapsed": _digest("An admission ended", "Read why; you may apply again."),
        "admission.compensated": _now(
            "No work came in time", "What was promised to you instead is paid."
        ),
        "qualification.invited": _now(
            "You are invited to a test", "What it pays, or why not, stands beside it."
        ),
        "qualification.granted": _now("You are qualified", "New work is open to you."),
        "qualification.denied": _now(
            "A test was not passed", "Its result, and when you may sit it again, are there."
        ),
        "qualification.expired": _digest(
            "A test or a qualification ran out", "Its time was over; nothing counts against you."
        ),
        "qualification.revoked": _now("A qualification ended", "The reasons are there."),
        "qualification.regraded": _now("A test was graded anew", "Look at the new result."),
        "sitting.regraded": _now(
            "A test of yours was graded again",
            "A key was wrong, or an item was withdrawn; see what it came to.",
        ),
        "quality_rule.changed": _now(
            "A quality rule of yours has ended", "Its time is over; simulate it anew to go on."
        ),
        "terms.published": _now("New terms", "Read them before they bind."),
    },
    ("pay", Audience.PERSON): {
        "recovery.opened": _now(
            "Pay of yours is questioned", "Read why and say your side; nothing is taken before."
        ),
        "recovery.decided": _now(
            "The case about pay of yours was decided", "Read what it came to, and why."
        ),
        "earning.approved": _digest("Pay of yours was approved", "The next payout holds it."),
        "earning.accrued": _digest("You earned something", "It is on your account."),
        "payee.ready": _now("You can be paid", "Your details were accepted."),
        "payee.not_ready": _now(
            "You cannot be paid yet", "The payment service asks for something."
        ),
        "payout.held": _now("A payout is held", "The reason is beside it."),
        "payout.on_its_way": _digest("A payout is on its way", "Your bank has it within days."),
        "payout.paid": _now("You were paid", "The money has left for your bank."),
        "payout.failed": _now("A payout failed", "Check where you are paid."),
        "payout.returned": _now("A payout came back", "Your bank returned it; check your details."),
        "payout.cancelled": _now("A payout was cancelled", "What you earned is still yours."),
        "payout.reversed": _now("A payout was undone", "The decision is beside it."),
    },
    ("pay", Audience.PERSON_AND_LAB): {
        "pay_dispute.opened": _now(
            "Time or pay is disputed", "Read what is claimed, and answer by the day beside it."
        ),
        "pay_dispute.changed": _now("A dispute about pay went on", "Read what is asked of you."),
        "pay_dispute.decided": _now("A dispute about pay was decided", "The reasons are there."),
    },
    ("projects", Audience.LAB): {
        "project.live": _digest("A project is live", "Offers go out."),
        "project.paused": _now("A project is paused", "No offers go out."),
        "project.draining": _digest("A project ends", "Work under way goes on; no offers go out."),
        "project.closed": _digest("A project is closed", "All is settled."),
        "tasks.imported": _digest("Tasks were imported", "Look at the rows."),
        "export.ready": _now("An export is ready", "It can be downloaded."),
    },
    ("tasks", Audience.LAB): {
        "return_request.answered": _now("A task was given back, or is kept", "Read the answer."),
        "task_repair.opened": _digest("Experts find fault with a task", "Read what they say."),
    },
    ("money", Audience.LAB): {
        "funding.invoiced": _now("An invoice is out", "Pay it where it says; then it counts."),
        "funding.overdue": _now("An invoice is overdue", "It can still be paid."),
        "funding.succeeded": _now("Money has arrived", "It can be budgeted."),
        "funding.failed": _now("A payment failed", "No money was taken."),
        "budget.low": _now("A budget runs low", "Add to it, or work stops."),
        "budget.exhausted": _now("A budget is used up", "No new offers go out."),
        "refund.sent": _now("A refund was sent", "Your bank has it within days."),
        "refund.refused": _now("A refund was refused", "The money is still here."),
    },
    ("platform", Audience.OPS): {
        "external_call.unknown": _now("A call has no known end", "Somebody must look it up."),
        "card_dispute.opened": _now("A payment is disputed", "Evidence is due."),
        "payout.escalated": _now("A payout needs somebody", "It was held for too long."),
        "quality_rule.fired": _digest("A quality rule hit somebody", "See whom, and why."),
        "item.flagged": _digest("An item of a test looks wrong", "Look at it, and decide."),
    },
    ("quality", Audience.LAB_AND_OPS): {
        "quality.alert": _now(
            "Something needs a look",
            "A target is missed, a prediction no longer holds, or accepted work is alike.",
        ),
    },
    ("webhooks", Audience.LAB): {
        "webhook_endpoint.failing": _now(
            "A webhook endpoint fails", "It will be disabled on the fifth day."
        ),
        "webhook_endpoint.disabled": _now(
            "A webhook endpoint is disabled", "Nothing more is sent to it."
        ),
    },
}

NOTICES = {
    event: Notice(topic, audience, mail, title, text)
    for (topic, audience), told in _TOLD.items()
    for event, (mail, title, text) in told.items()
}
"""What people are told. Types that nothing emits yet are named as the requirements name them."""

TOPICS = tuple(sorted({"messages", *(notice.topic for notice in NOTICES.values())}))
"""What people choose by; messages are what labs and ops write to a cohort."""

DIGEST_HOUR = 8
ATTEMPTS = 20
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=6)


class NotificationNotFound(MarketError):
    """No notification has this id, or it is somebody else's."""

    def __init__(self, notification_id: UUID) -> None:
        super().__init__("you have no such notification")
        self._notification_id = notification_id


class TopicUnknown(MarketError):
    """A topic that there is not."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"there is no topic {topic[:80]!r}; there are: {', '.join(TOPICS)}")
        self.topics = list(TOPICS)


class PreferenceInvalid(MarketError):
    """A time zone or an hour that a digest cannot be sent by."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


def next_digest(after: datetime, zone: str, *, hour: int, digest: Digest) -> datetime:
    """When the next digest is due: at an hour of the person's own day, or of its Monday.

    The day is counted by the person's calendar, so that it stays the same hour when clocks change.
    """
    own = ZoneInfo(zone)
    day = after.astimezone(own).date()
    while True:
        due = datetime.combine(day, time(hour), tzinfo=own).astimezone(UTC)
        if due > after and (digest is Digest.DAILY or day.weekday() == 0):
            return due
        day += timedelta(days=1)


def next_try(attempts: int) -> timedelta | None:
    """How long a letter waits after so many failed attempts; None when it is given up."""
    if attempts >= ATTEMPTS:
        return None
    return min(FIRST_WAIT * (1 << min(attempts - 1, 12)), LONGEST_WAIT)
