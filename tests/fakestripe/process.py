"""A handle on the stand-in's process, for tests: start it, break it, ask it, end it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.fakestripe.world import Json

ROOT = Path(__file__).resolve().parents[2]


class FakeStripe:
    """The stand-in as its own process; a context manager that ends it.

    `with FakeStripe() as stripe:` then `Gateway(api_key="sk_test_x", base_url=stripe.url)`.
    """

    def __init__(
        self,
        *,
        webhook: str = "",
        webhook_secret: str = "",
        thin_webhook: str = "",
        thin_secret: str = "",
        payout_delay_s: float = 0.02,
        settle_delay_s: float = 0.02,
        instant_onboarding: bool = False,
        tape: Path | None = None,
        state: Path | None = None,
        port: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        options = {
            "--webhook": webhook,
            "--webhook-secret": webhook_secret,
            "--thin-webhook": thin_webhook,
            "--thin-secret": thin_secret,
            "--payout-delay-s": str(payout_delay_s),
            "--settle-delay-s": str(settle_delay_s),
            "--tape": str(tape or ""),
            "--state": str(state or ""),
            "--port": str(port),
        }
        self._command = [sys.executable, "-m", "tests.fakestripe", "--while-stdin"]
        for name, value in options.items():
            if value:
                self._command += [name, value]
        if instant_onboarding:
            self._command.append("--instant-onboarding")
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._http: httpx.Client | None = None
        self.url = ""
        self.ready_line = ""

    def start(self) -> Self:
        """Start the process and wait for its ready line."""
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline().strip()
        found = re.search(r"http://\S+", self.ready_line)
        if found is None:
            self.stop()
            raise RuntimeError(f"the stand-in did not start: {self.ready_line!r}")
        self.url = found.group(0)
        self._http = httpx.Client(base_url=self.url, timeout=120, trust_env=False)
        return self

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._http is not None:
            self._http.close()
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)
        process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def ask(self, method: str, path: str, **data: object) -> Json:
        """One control request; an error answer is raised."""
        assert self._http is not None
        answer = self._http.request(method, path, json=data or None)
        answer.raise_for_status()
        return answer.json()  # type: ignore[no-any-return]

    def fault(self, operation: str, kind: str, **how: object) -> None:
        """Let the next call of an operation, such as `post /v1/transfers`, go wrong."""
        self.ask("POST", "/_faults", operation=operation, kind=kind, **how)

    def no_faults(self) -> None:
        """Take every rule back."""
        self.ask("DELETE", "/_faults")

    def onboard(self, account_id: str) -> None:
        """Let an account pass onboarding: details, bank account, transfers active."""
        self.ask("POST", f"/_accounts/{account_id}/onboard")

    def settle(self, timeout_s: float = 60) -> None:
        """Wait until nothing is due and every webhook was taken."""
        answer = self.ask("POST", "/_settle", timeout_s=timeout_s)
        assert answer["settled"], answer

    def reset(self) -> None:
        """Forget everything, faults and complaints too."""
        self.ask("POST", "/_reset")

    def advance(self, seconds: float) -> None:
        """Move the stand-in's clock forward."""
        self.ask("POST", "/_clock", advance_s=seconds)

    def every(self, kind: str) -> list[Json]:
        """All objects of a kind, newest first: `transfer`, `payout`, `event`, `account`..."""
        return self.ask("GET", f"/_objects/{kind}")["data"]  # type: ignore[no-any-return]

    def held(self, place: str, currency: str = "usd") -> int:
        """What the stand-in's bank holds in a place such as `platform/available`."""
        return int(self.ask("GET", "/_bank")["places"].get(place, {}).get(currency, 0))

    def assert_clean(self) -> None:
        """No request broke Stripe's description, and no cent came or went by itself."""
        gate = self.ask("GET", "/_gate")
        assert gate["complaints"] == [], gate["complaints"]
        assert gate["answers"] == [], gate["answers"]
        check = self.ask("GET", "/_bank/check")
        assert check["ok"], check["problems"]
