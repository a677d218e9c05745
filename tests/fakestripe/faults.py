"""What shall go wrong, on which operation and which time: rules set over the control path."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tests.fakestripe.world import Json

BEFORE = {
    "drop_before": "the connection is cut and nothing was done",
    "timeout_before": "no answer for delay_s, and nothing was done",
    "refuse": "an error answer with the given status, code and message; nothing was done",
    "401": "the key is not accepted",
    "forbid": "the key may not do this; comes before the idempotency key is looked at",
    "402": "the money is not there",
    "429": "too many requests; should_retry and retry_after set the headers of those names",
    "lock_timeout": "429 too, but only because another request holds the object",
    "409": "another request holds this key",
    "mismatch": "the key was used before with other parameters",
    "500_before": "an internal error before anything was done; kept for the key",
    "502_html": "a page from a proxy",
    "slow": "the request is executed after delay_s; meanwhile its key is in use",
}
AFTER = {
    "drop_after": "done, then the connection is cut",
    "timeout_after": "done, then no answer for delay_s",
    "cut_body": "done, and half of the answer arrives",
    "500_after": "done, but the answer is an internal error; kept for the key",
}


@dataclass(slots=True)
class Fault:
    """One rule: the nth call of an operation from now on goes wrong, `times` times in a row."""

    operation: str
    kind: str
    nth: int = 1
    times: int = 1
    delay_s: float = 30.0
    status: int = 402
    code: str = "balance_insufficient"
    message: str = "You have insufficient funds in your Stripe account."
    should_retry: str = ""
    retry_after: str = ""
    seen: int = 0


class UnknownFault(Exception):
    """A rule that names no known kind."""


class Faults:
    """The rules in force, each counting the calls it has seen."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def add(self, rule: Json) -> Fault:
        """Put a rule in force.

        Raises:
            UnknownFault: the kind is none of the known ones.
        """
        fault = Fault(**rule)
        fault.operation = fault.operation.strip().lower()
        if fault.kind not in BEFORE and fault.kind not in AFTER:
            raise UnknownFault(f"{fault.kind} is none of {[*BEFORE, *AFTER]}")
        self.rules.append(fault)
        return fault

    def forbids(self, operation: str) -> bool:
        """Whether a rule of that kind stops this call at the door; it is spent by doing so."""
        for rule in self.rules:
            if rule.kind == "forbid" and rule.operation == operation and rule.seen < rule.times:
                rule.seen += 1
                return True
        return False

    def strike(self, operation: str) -> Fault | None:
        """The rule that this call runs into, if any; every matching rule counts it."""
        hit: Fault | None = None
        for rule in self.rules:
            if rule.kind != "forbid" and rule.operation in (operation.lower(), "*"):
                rule.seen += 1
                if hit is None and rule.nth <= rule.seen < rule.nth + rule.times:
                    hit = rule
        return hit

    def dump(self) -> list[Json]:
        """The rules as documents."""
        return [asdict(rule) for rule in self.rules]
