"""What leaves the outbox, against bare senders of the same: `python -m tests.bench handover`.

Events are written and published first. Timed are: their jobs into the embedded queue, by the
relay's own batches, beside a bare insert of as many rows; then their webhooks, each signed, sent to
a server on loopback and recorded, by the courier's own threads, beside the same bodies posted to
the same server by as many bare threads. Rates are events and messages a second.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import func, select, text

from market.auth import Part, keyring
from market.broker import open_broker
from market.courier import THREADS, Senders, make_deliveries
from market.db import PLATFORM, database, new_id, now
from market.deliveries.actions import Wish, create_endpoint
from market.deliveries.models import WebhookDelivery
from market.deliveries.rules import SignatureKind
from market.embedded import EmbeddedPostgres
from market.events import Event, emit
from market.feeds import Feed, FeedKind, publish
from market.people.actions import sign_up
from market.relay import relay_batch
from market.settings import in_force, read_settings
from tests.conftest import SECRET, migrate
from tests.market.receiver import Receiver, receiving

PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Lab:
    """Who hears what happens."""

    organisation_id: UUID
    person_id: UUID


def make_lab() -> Lab:
    """A lab, with nothing published yet that a later figure would count."""
    with database.begin(PLATFORM) as session:
        joined = sign_up(
            session,
            part=Part.LAB,
            name="Ada",
            email="ada@lab.example",
            organisation_name="Lab",
            at=now(),
        )
        assert joined.organisation is not None
        found = Lab(joined.organisation.id, joined.person.id)
    publish_all()
    return found


def publish_all() -> None:
    """Give every event its place."""
    moved = 1
    while moved:
        with database.begin() as session:
            moved = publish(session, at=now())


def happen(lab: Lab, events: int) -> None:
    """So many events that concern the lab, each with one job after it, published."""
    with database.begin(PLATFORM) as session:
        for _ in range(events):
            emit(
                session,
                Event.TASK_HELD,
                new_id(),
                at=now(),
                organisation_id=lab.organisation_id,
            )
    publish_all()


def relayed(events: int) -> tuple[float, float]:
    """Events a second into the queue, and rows a second of a bare insert of as many."""
    broker = open_broker(in_force.settings)
    began = time.perf_counter()
    while relay_batch(broker, at=now()):
        pass
    taken = time.perf_counter() - began
    began = time.perf_counter()
    with database.begin() as session:
        session.execute(
            text("create temporary table bare (id uuid primary key, body jsonb) on commit drop")
        )
        for _ in range(events):
            session.execute(
                text('insert into bare values (:id, \'{"subject": "one"}\')'), {"id": new_id()}
            )
    return events / taken, events / (time.perf_counter() - began)


def sent(lab: Lab, receiver: Receiver, endpoints: int, events: int) -> tuple[float, float]:
    """Messages a second that were sent and recorded, and bare posts a second of their bodies."""
    with database.begin(PLATFORM) as session:
        for number in range(endpoints):
            create_endpoint(
                session,
                Feed(lab.organisation_id, FeedKind.ORGANISATION),
                Wish(receiver.url(f"/{number}")),
                signature=SignatureKind.HMAC,
                created_by=lab.person_id,
                at=now(),
            )
    happen(lab, events)
    wanted = endpoints * events
    senders = Senders()
    began = time.perf_counter()
    while make_deliveries():
        pass
    while len(receiver.got) < wanted or _waiting():
        if time.perf_counter() - began > PATIENCE_S:
            raise TimeoutError(f"{len(receiver.got)} of {wanted} messages came")
        if not senders.send_due():
            senders.done.wait(0.01)
        senders.done.clear()
    taken = time.perf_counter() - began
    senders.close()
    bodies = [one.body for one in receiver.got]
    began = time.perf_counter()
    with httpx.Client(trust_env=False) as client, ThreadPoolExecutor(THREADS) as threads:
        for answer in threads.map(
            lambda body: client.post(receiver.url("/bare"), content=body), bodies
        ):
            answer.raise_for_status()
    return wanted / taken, wanted / (time.perf_counter() - began)


def _waiting() -> int:
    with database.begin(PLATFORM) as session:
        open_ones = select(func.count()).where(WebhookDelivery.state.in_(("pending", "retrying")))
        return int(session.scalar(open_ones) or 0)


def main(argv: list[str]) -> int:
    """Print one object: four rates and two ratios."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench handover", description=__doc__)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=4)
    options = parser.parse_args(argv)
    os.environ["STUMPWORK_ALLOW_PRIVATE_TARGETS"] = "true"
    with (
        tempfile.TemporaryDirectory(prefix="bench-handover-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as server,
        receiving() as receiver,
    ):
        os.environ["STUMPWORK_DATABASE_URL"] = server.url
        os.environ["STUMPWORK_SECRET_KEY"] = SECRET
        keyring.open(SECRET)
        migrate(server.url)
        in_force.open(read_settings())
        database.open(server.url, pool_size=THREADS + 4)
        lab = make_lab()
        relayed(1)
        happen(lab, options.events)
        queued, bare_rows = relayed(options.events)
        messages, bare_posts = sent(lab, receiver, options.endpoints, options.events)
        database.close()
    found = {
        "benchmark": "handover",
        "events": options.events,
        "endpoints": options.endpoints,
        "outbox_to_queue_per_s": round(queued),
        "bare_inserts_per_s": round(bare_rows),
        "webhooks_per_s": round(messages, 1),
        "bare_posts_per_s": round(bare_posts, 1),
        "ratio_of_queue": round(queued / bare_rows, 3),
        "ratio_of_webhooks": round(messages / bare_posts, 3),
    }
    print(json.dumps(found))
    return 0
