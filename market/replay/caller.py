"""A caller of the HTTP API: what a lab's own program would be."""

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from market.errors import MarketError

PATIENCE_S = 900.0


class CallRefused(MarketError):
    """The service refused a call, or the work that it started failed."""

    def __init__(self, call: str, status: int, detail: str) -> None:
        super().__init__(f"{call} was refused with {status}: {detail}")
        self.status = status


class Caller:
    """Calls the API under one key; a refusal is an exception.

    Writes carry an idempotency key where the API asks for one, and are sent once.
    """

    def __init__(self, url: str, key: str | None, http: httpx.Client | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = http or httpx.Client(base_url=url, timeout=300, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> Any:
        """What stands at an address."""
        return self._answer("GET", path, self._send("GET", path, params=query))

    def every(self, path: str, **query: str | int) -> Iterator[Any]:
        """Every item of a list, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=200, **query, **({"cursor": cursor} if cursor else {}))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def post(
        self,
        path: str,
        body: object = None,
        *,
        keyed: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Write at an address."""
        extra = {"Idempotency-Key": uuid4().hex} if keyed else {}
        answer = self._send("POST", path, json=body, headers={**extra, **(headers or {})})
        return self._answer("POST", path, answer)

    def replace(self, path: str, body: object) -> Any:
        """Put something else at an address, unless that has changed since it was read here."""
        read = self._send("GET", path)
        self._answer("GET", path, read)
        found = self._send("PUT", path, json=body, headers={"If-Match": read.headers["ETag"]})
        return self._answer("PUT", path, found)

    def upload(self, path: str, lines: Iterable[bytes]) -> Any:
        """Send rows as a stream of JSON lines."""
        answer = self._send(
            "POST",
            path,
            content=lines,
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": uuid4().hex},
        )
        return self._answer("POST", path, answer)

    def await_operation(self, operation_id: str, say: Callable[[str], None]) -> Any:
        """Wait for long work to end, telling how far it is.

        Raises:
            CallRefused when it failed, was cancelled or took longer than anyone waits.
        """
        until = time.monotonic() + PATIENCE_S
        told = ""
        while time.monotonic() < until:
            found = self.get(f"/v1/operations/{operation_id}")
            if found["state"] == "succeeded":
                return found
            if found["state"] in ("failed", "cancelled"):
                reason = (found.get("problem") or {}).get("detail", found["state"])
                raise CallRefused(f"operation {operation_id}", 200, reason)
            line = f"{found['phase']} {found['done']}/{found['total'] or '?'}"
            if line != told:
                told = line
                say(line)
            time.sleep(0.1)
        raise CallRefused(f"operation {operation_id}", 200, "it took too long")

    def _send(self, method: str, path: str, **extra: Any) -> httpx.Response:
        try:
            headers = {**self._headers, **extra.pop("headers", {})}
            return self._http.request(method, path, headers=headers, **extra)
        except httpx.HTTPError as lost:
            raise CallRefused(f"{method} {path}", 0, f"no answer: {lost}") from lost

    @staticmethod
    def _answer(method: str, path: str, answer: httpx.Response) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            detail = answer.json().get("detail", answer.text)
        except ValueError:
            detail = answer.text[:300]
        raise CallRefused(f"{method} {path}", answer.status_code, detail)
