"""Runs the stand-in by itself: `python -m tests.fakemodel --port 8600`."""

import argparse
import signal
import threading
from pathlib import Path

from tests.fakemodel.server import FakeModel


def main() -> None:
    """Answer until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--recording", type=Path, default=None, help="lines of prompt and outputs")
    parser.add_argument("--key", default=None, help="the only key that is let in")
    options = parser.parse_args()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    with FakeModel(port=options.port, recording=options.recording, key=options.key) as model:
        print(f"target model at {model.base_url}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
