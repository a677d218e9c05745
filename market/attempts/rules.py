"""Attempts at a target model: their states, what a stump claim needs, what is refused."""

import re
import unicodedata
from decimal import ROUND_CEILING, Decimal
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

ATTEMPT = Machine(
    "attempt",
    ("drafted",),
    (
        Move("send", ("drafted",), "sent"),
        Move("respond", ("sent",), "responded"),
        Move("fail", ("sent",), "failed"),
        Move("claim", ("responded",), "claimed"),
        Move("concede", ("responded",), "not_stumped"),
        Move("judge", ("claimed",), "auto_judged"),
        Move("validate", ("claimed", "auto_judged"), "validating"),
        Move("verify", ("validating",), "verified"),
        Move("refute", ("validating",), "refuted"),
        Move("clear", ("validating",), "not_stumped"),
        # Only when the verdict on the submission is corrected.
        Move("overturn", ("refuted", "not_stumped"), "verified"),
        Move("revoke", ("verified",), "refuted"),
    ),
)

HANDED_IN = ("claimed", "auto_judged", "not_stumped")
"""States in which an attempt may go with a submission: the expert has said what it saw."""

MAX_PROMPT = 200_000
MAX_REFERENCE = 20_000
MAX_ATTEMPTS = 200
"""Attempts that one offer may make, failed ones included."""

TRIES = 3
"""Times that a sample is asked for when the model is busy, broken or slow."""

WAITS_S = (0.5, 2.0)
"""How long to wait before the second and the third try."""

MAX_WAIT_S = 10.0
"""The longest wait that a model may ask for with `Retry-After`."""

MILLION = 1_000_000


class AttemptNotFound(MarketError):
    """No attempt that the caller may see has this id."""

    def __init__(self, attempt_id: UUID) -> None:
        super().__init__("there is no such attempt")
        self.attempt_id = attempt_id


class NoTargetModel(MarketError):
    """An attempt in a project that names no target model."""

    def __init__(self) -> None:
        super().__init__("this project has no target model; hand in your work without an attempt")


class PromptUnfit(MarketError):
    """A prompt or a reference that is blank or too long."""

    def __init__(self, field: str, limit: int) -> None:
        super().__init__(f"{field} needs 1 to {limit} characters")
        self.field = field
        self.limit = limit


class TooManyAttempts(MarketError):
    """One attempt more than an offer may make."""

    def __init__(self) -> None:
        super().__init__(f"an offer has at most {MAX_ATTEMPTS} attempts")
        self.limit = MAX_ATTEMPTS


class AttemptOpen(MarketError):
    """A second attempt while the model still answers the first."""

    def __init__(self) -> None:
        super().__init__("the target model is still answering; wait for it")


class AttemptNotReady(MarketError):
    """An attempt handed in before its expert said what came of it."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"this attempt is {state.replace('_', ' ')}; claim a stump or concede, then hand it in"
        )
        self.state = state


class AnswerFailed(MarketError):
    """A target model that gave no usable answer."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class LeaseHeld(MarketError):
    """An attempt that another worker is asking for at this moment; the job comes back."""

    def __init__(self, attempt_id: UUID) -> None:
        super().__init__("another worker is asking the model for this attempt")
        self.attempt_id = attempt_id


class NoOpenSession(MarketError):
    """A question to a target model with no work session running."""

    def __init__(self) -> None:
        super().__init__("start a work session on this offer before you ask the model")


def cost_minor(tokens_in: int, tokens_out: int, price_in: Decimal, price_out: Decimal) -> Decimal:
    """What one answer cost.

    Units: tokens; minor units for a million tokens; minor units, rounded up to a millionth.
    """
    exact = (tokens_in * price_in + tokens_out * price_out) / MILLION
    return exact.quantize(Decimal("0.000001"), rounding=ROUND_CEILING)


def most_tokens_in(prompt: str) -> int:
    """No tokenizer in use makes more tokens of a text than it has bytes, and some for the frame."""
    return len(prompt.encode()) + 64


def normal_answer(text: str) -> str:
    """An answer as the automatic judge compares it: the last line's content, without dress.

    Takes what stands after a final `Answer:` or in `\\boxed{}`, else the last line that is not
    blank; lower case, one kind of space, no closing punctuation, plain digits of numbers.
    """
    folded = unicodedata.normalize("NFKC", text).strip()
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", folded)
    marked = re.findall(r"(?im)^.*?\banswer\s*(?:is\s*:?|:)\s*(.+)$", folded)
    lines = [line for line in folded.splitlines() if line.strip()]
    chosen = boxed[-1] if boxed else marked[-1] if marked else lines[-1] if lines else ""
    plain = re.sub(r"\s+", " ", chosen).strip(" \t.!*`'\"$").casefold()
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)


def is_missed(output: str, reference: str) -> bool:
    """Whether the automatic judge reads another answer than the reference; advice, no verdict."""
    return normal_answer(output) != normal_answer(reference)
