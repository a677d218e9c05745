"""The server: `POST /v1/chat/completions`, and `/control` to make it fail and to see its requests.

Faults: `500`, `429`, `slow` (seconds before the answer), `drip` (bytes that never end in time),
`nonsense` (no JSON), `empty` (an answer without text), `redirect`, `cut` (the connection ends in
the middle), `huge`, `nousage`, `unauthorised`.
"""

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fakemodel.brain import Brain, tokens

MARKER = re.compile(
    r"\[\[(500|429|slow|drip|nonsense|empty|redirect|cut|huge|nousage)(?::(\d+))?\]\]"
)
MAX_BODY = 8 * 1024 * 1024
KEPT = 1_000


@dataclass
class Fault:
    """What goes wrong, for how many requests, and its figure: seconds, for the slow ones."""

    kind: str
    times: int = 1_000_000
    figure: int = 1


@dataclass
class World:
    """What the server knows and has seen."""

    brain: Brain
    key: str | None = None
    fault: Fault | None = None
    marked: dict[str, int] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, request: dict[str, Any]) -> None:
        """Keep a request, the newest thousand."""
        with self.lock:
            self.count += 1
            self.seen.append(request)
            del self.seen[:-KEPT]

    def fault_for(self, prompt: str) -> Fault | None:
        """What goes wrong with this prompt now; a marker such as `[[429:2]]` fails twice."""
        with self.lock:
            found = MARKER.search(prompt)
            if found is not None:
                kind, figure = found.group(1), found.group(2)
                if kind in ("500", "429") and figure is not None:
                    failed = self.marked.get(prompt, 0)
                    if failed >= int(figure):
                        return None
                    self.marked[prompt] = failed + 1
                return Fault(kind, figure=int(figure or 1))
            if self.fault is None or self.fault.times <= 0:
                return None
            self.fault.times -= 1
            return self.fault


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    world: World

    def log_message(self, *args: object) -> None:
        """Say nothing; tests read what was asked from the world."""

    def do_GET(self) -> None:
        """What was asked, or the one model there is."""
        if self.path == "/control":
            world = self.world
            return self._send(200, {"requests": world.count, "seen": world.seen})
        if self.path == "/v1/models":
            return self._send(
                200, {"object": "list", "data": [{"id": "fake-1", "object": "model"}]}
            )
        return self._send(404, {"error": {"message": "no such address"}})

    def do_POST(self) -> None:
        """A question, or a fault to show from now on."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return self._send(413, {"error": {"message": "too long"}})
        body = self.rfile.read(length)
        try:
            read = json.loads(body)
        except ValueError:
            return self._send(400, {"error": {"message": "no JSON"}})
        if self.path == "/control":
            kind = read.get("fault")
            self.world.fault = (
                None
                if kind is None
                else Fault(kind, read.get("times", 1_000_000), read.get("figure", 1))
            )
            return self._send(200, {"fault": kind})
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": "no such address"}})
        return self._complete(read)

    def _complete(self, asked: Mapping[str, Any]) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        prompt = "\n".join(str(message["content"]) for message in asked["messages"])
        seed = int(asked.get("seed") or 0)
        self.world.note(
            {"prompt": prompt, "seed": seed, "model": asked.get("model"), "key": key or None}
        )
        if self.world.key is not None and key != self.world.key:
            return self._send(401, {"error": {"message": "bad key"}})
        fault = self.world.fault_for(prompt)
        text = self.world.brain.answer(prompt, seed)
        reply: dict[str, Any] = {
            "id": f"chatcmpl-{seed}",
            "object": "chat.completion",
            "created": 0,
            "model": "fake-1-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": tokens(prompt),
                "completion_tokens": tokens(text),
                "total_tokens": tokens(prompt) + tokens(text),
            },
        }
        if fault is None:
            return self._send(200, reply)
        return self._fail(fault, reply)

    def _fail(self, fault: Fault, reply: dict[str, Any]) -> None:
        kind = fault.kind
        if kind == "500":
            return self._send(500, {"error": {"message": "the model fell over"}})
        if kind == "429":
            return self._send(429, {"error": {"message": "busy"}}, {"Retry-After": "0"})
        if kind == "slow":
            time.sleep(fault.figure)
            return self._send(200, reply)
        if kind == "redirect":
            return self._send(307, {}, {"Location": "http://127.0.0.1:1/elsewhere"})
        if kind == "empty":
            reply["choices"][0]["message"]["content"] = None
        if kind == "nousage":
            del reply["usage"]
        if kind == "nonsense":
            return self._bytes(200, b"<html>gateway says hello</html>", "text/html")
        if kind == "huge":
            return self._bytes(200, b" " * (5 * 1024 * 1024), "application/json")
        if kind in ("cut", "drip"):
            return self._break_off(kind, fault.figure)
        return self._send(200, reply)

    def _break_off(self, kind: str, seconds: int) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        if kind == "cut":
            self.wfile.write(b'{"choices": [')
            return
        # A byte now and then, so that no single read ever times out.
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    def _send(
        self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        self._bytes(status, json.dumps(content).encode(), "application/json", headers)

    def _bytes(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            # Whoever asked has gone; that is its right.
            self.close_connection = True


class FakeModel:
    """A target model on loopback, in threads of this process, until it is stopped."""

    def __init__(
        self, *, port: int = 0, recording: Path | None = None, key: str | None = None
    ) -> None:
        self.world = World(Brain(recording), key)
        handler = type("Bound", (Handler,), {"world": self.world})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        """What a lab names as its model's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def fail(self, kind: str | None, *, times: int = 1_000_000, figure: int = 1) -> None:
        """Show a fault from now on, for some requests; `None` ends it."""
        self.world.fault = None if kind is None else Fault(kind, times, figure)

    def start(self) -> "FakeModel":
        """Answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> "FakeModel":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
