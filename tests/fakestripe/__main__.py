"""Run the stand-in as a program; see the package for what it is and is not."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.fakestripe.delivery import Deliverer, Endpoint
from tests.fakestripe.gate import Gate
from tests.fakestripe.server import FakeStripeApp
from tests.fakestripe.world import Delays, Json, World


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fakestripe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--webhook", help="where snapshot (v1) events are posted")
    parser.add_argument("--webhook-secret", default="")
    parser.add_argument("--thin-webhook", help="where thin (v2) events are posted")
    parser.add_argument("--thin-secret", default="")
    parser.add_argument("--payout-delay-s", type=float, default=0.2, help="each step of a payout")
    parser.add_argument(
        "--settle-delay-s", type=float, default=0.2, help="until money is available"
    )
    parser.add_argument("--instant-onboarding", action="store_true", help="accounts start ready")
    parser.add_argument("--tape", type=Path, help="every request and answer, one JSON line each")
    parser.add_argument("--state", type=Path, help="keep everything here across restarts")
    parser.add_argument("--while-stdin", action="store_true", help="end when stdin ends")
    return parser.parse_args(argv)


async def _serve(server: uvicorn.Server, listening: socket.socket, ready: str) -> None:
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if server.started:
        print(ready, flush=True)
    await running


def main(argv: list[str]) -> int:
    """Serve until told to stop."""
    args = _arguments(argv)
    world = World(
        delays=Delays(payout_s=args.payout_delay_s, settle_s=args.settle_delay_s),
        state_file=args.state,
        instant_onboarding=args.instant_onboarding,
    )
    resumed = world.load()
    gate = Gate()
    gate.load()
    endpoints = []
    if args.webhook:
        endpoints.append(Endpoint(args.webhook, [args.webhook_secret]))
    if args.thin_webhook:
        endpoints.append(Endpoint(args.thin_webhook, [args.thin_secret], thin=True))
    app = FakeStripeApp(world, gate, Deliverer(world, endpoints), args.tape)

    class Protocol(H11Protocol):
        """Remembers each connection, so that a fault can cut it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            app.transports[transport.get_extra_info("peername")[:2]] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            app.transports.pop(self.transport.get_extra_info("peername")[:2], None)
            super().connection_lost(exc)

    # Of a socket that does not say that it is TCP, asyncio lets small answers wait for one another.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((args.host, args.port))
    url = f"http://{args.host}:{listening.getsockname()[1]}"
    here: Json = {"self": {"id": "self", "url": url}}
    world.objects["self"] = here
    config = uvicorn.Config(
        app, http=Protocol, loop="asyncio", lifespan="on", log_level="critical", ws="none"
    )
    server = uvicorn.Server(config)
    if args.while_stdin:

        def watch() -> None:
            while os.read(sys.stdin.fileno(), 1024):
                pass
            server.should_exit = True

        threading.Thread(target=watch, daemon=True).start()
    ready = (
        f"fakestripe listens on {url} (a stand-in for Stripe; requests checked against the "
        f"{gate.source}; never run against Stripe{'; state resumed' if resumed else ''})"
    )
    asyncio.run(_serve(server, listening, ready))
    world.save()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
