"""A real server process with something to look at, and a real browser that looks at it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route
from playwright.sync_api import sync_playwright as playwright

from market.embedded import free_port

REPOSITORY = Path(__file__).parent.parent.parent
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK = (1280, 900)
PHONE = (390, 844)
PATIENCE_MS = 30_000


def chromium() -> Path | None:
    """Where a Chromium is installed: as CHROMIUM says, or where Debian puts it."""
    found = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    return found if found.exists() else None


@contextmanager
def web_process(database_url: str, secret: str) -> Iterator[str]:
    """The web as its own process, on a database that is there; its address."""
    port = free_port()
    environment = {
        **os.environ,
        "STUMPWORK_DATABASE_URL": database_url,
        "STUMPWORK_SECRET_KEY": secret,
        "STUMPWORK_WEB_PORT": str(port),
        "STUMPWORK_LOG_LEVEL": "ERROR",
    }
    argv = [sys.executable, "-m", "market.app"]
    with subprocess.Popen(argv, env=environment, cwd=REPOSITORY) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _await_answer(process, f"{address}/health/ready")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=120)


def _await_answer(process: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        assert process.poll() is None, "the web process ended before it answered"
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the web process did not answer within three minutes")


@dataclass
class Visitors:
    """Opens browser windows, and keeps what went wrong in any of them."""

    browser: Browser
    address: str
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def come_in(self, key: str, *, size: tuple[int, int] = DESK, scheme: str = "light") -> Page:
        """A window of its own, in which somebody has come in with a key."""
        page = self.window(size=size, scheme=scheme)
        page.goto(f"{self.address}/console")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Come in").click()
        page.get_by_role("button", name="Leave").wait_for()
        return page

    def window(self, *, size: tuple[int, int] = DESK, scheme: str = "light") -> Page:
        """A window without a cookie."""
        width, height = size
        context: BrowserContext = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MS)
        context.route("**/*", self._only_here)
        page = context.new_page()
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _only_here(self, route: Route, request: Request) -> None:
        host = urlsplit(request.url).hostname or urlsplit(request.url).scheme
        self.hosts.add(host)
        if host in ("127.0.0.1", "data"):
            route.continue_()
        else:
            route.abort()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@contextmanager
def visitors(program: Path, address: str) -> Iterator[Visitors]:
    """A browser on a started web."""
    with playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield Visitors(browser, address)
        finally:
            browser.close()
