"""Pages a second and p99 beside a bare handler of the same server: `python -m tests.bench console`.

A made-up market, one web process, a few readers at once over loopback; also the largest page.
"""

import argparse
import json
import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx

from market.auth import keyring
from market.db import database
from market.embedded import EmbeddedPostgres
from market.settings import Settings, in_force
from tests.conftest import SECRET, migrate
from tests.market.browser import web_process
from tests.market.showcase import Showcase, set_up

BARE = "/health/live"
PAGES = {
    "lab": (
        "/console/lab",
        "/console/lab/money",
        "/console/lab/hours",
        "/console/lab/webhooks",
        "/console/lab/releases",
    ),
    "expert": (
        "/console/expert",
        "/console/expert/work",
        "/console/expert/earnings",
        "/console/expert/ability",
        "/console/expert/profile",
    ),
    "reviewer": ("/console/reviewer",),
    "ops": (
        "/console/ops",
        "/console/ops/runs",
        "/console/ops/offers",
        "/console/ops/experts",
        "/console/ops/policies",
        "/console/ops/policies/experiments",
        "/console/ops/signals",
        "/console/ops/signals/alarms",
        "/console/ops/signals/releases",
        "/console/ops/experts/tests",
        "/console/ops/experts/tests/sittings",
        "/console/ops/cases",
        "/console/ops/audit",
    ),
}


def main(argv: list[str]) -> int:
    """Measure every page and the bare handler; nought when each page was answered."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench console")
    parser.add_argument("--requests", type=int, default=60, help="of each page, by all readers")
    parser.add_argument("--readers", type=int, default=4)
    given = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="stumpwork-bench-") as passing,
        EmbeddedPostgres(Path(passing) / "data", durable=False) as postgres,
    ):
        migrate(postgres.url)
        keyring.open(SECRET)
        in_force.open(Settings(database_url=postgres.url, secret_key=SECRET))
        database.open(postgres.url)
        shown = set_up(datetime.now(UTC))
        with web_process(postgres.url, SECRET) as address:
            report = measure(shown, address, requests=given.requests, readers=given.readers)
        database.close()
    print(json.dumps(report))
    return 0


def measure(shown: Showcase, address: str, *, requests: int, readers: int) -> dict[str, object]:
    """Read every page, and the bare handler before and after them."""
    keys = {
        "lab": shown.lab_key,
        "expert": shown.expert_key,
        "reviewer": shown.reviewer_key,
        "ops": shown.ops_key,
    }
    bare = _read(address, BARE, None, requests, readers)
    pages = {
        path: _read(address, path, keys[part], requests, readers)
        for part, paths in PAGES.items()
        for path in paths
    }
    largest = max(pages, key=lambda path: pages[path]["bytes"])
    everything = [seconds for one in pages.values() for seconds in (one["pages_per_s"],)]
    return {
        "bench": "console",
        "readers": readers,
        "requests_each": requests,
        "bare": bare,
        "pages": pages,
        "slowest_pages_per_s": min(everything),
        "largest_page": largest,
        "largest_page_bytes": pages[largest]["bytes"],
    }


def _read(
    address: str, path: str, key: str | None, requests: int, readers: int
) -> dict[str, float]:
    """One address, read by several at once.

    Units: `p50_ms` and `p99_ms` in milliseconds, `bytes` of the body.
    """

    def reader(_: int) -> tuple[list[float], int]:
        with httpx.Client(base_url=address, timeout=60) as client:
            if key is not None:
                client.post("/console/enter", data={"key": key})
            size = len(client.get(path).raise_for_status().content)
            took = []
            for _ in range(max(1, requests // readers)):
                began = time.perf_counter()
                answer = client.get(path)
                took.append(time.perf_counter() - began)
                assert answer.status_code == 200, (path, answer.status_code)
            return took, size

    began = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        found = list(pool.map(reader, range(readers)))
    wall = time.perf_counter() - began
    took = sorted(seconds for some, _ in found for seconds in some)
    return {
        "pages_per_s": round(len(took) / wall, 1),
        "p50_ms": round(1000 * took[len(took) // 2], 2),
        "p99_ms": round(1000 * took[math.ceil(0.99 * len(took)) - 1], 2),
        "bytes": found[0][1],
    }
