"""The description of the API as it is kept: `python -m tests.openapi` writes it anew."""

import json
from pathlib import Path

from litestar.testing import TestClient

from market.app import create_app
from market.settings import Settings

KEPT = Path(__file__).parent.parent / "docs" / "openapi.json"


WIDTH = 110
"""A thing that fits in a line stands in one."""


def described() -> str:
    """What the service says of itself, in a fixed order, a line for each thing that fits in one."""
    settings = Settings(database_url="postgresql+psycopg://nowhere", secret_key="x" * 32)
    with TestClient(create_app(settings)) as client:
        found = client.get("/docs/openapi.json").json()
    return _written(found, 0) + "\n"


def _written(thing: object, depth: int) -> str:
    line = json.dumps(thing, sort_keys=True)
    if not isinstance(thing, dict | list) or len(line) + depth <= WIDTH:
        return line
    if isinstance(thing, list):
        begins, ends = "[]"
        parts = [_written(one, depth + 1) for one in thing]
    else:
        begins, ends = "{}"
        parts = [
            f"{json.dumps(name)}: {_written(thing[name], depth + 1)}" for name in sorted(thing)
        ]
    inner = "\n" + " " * (depth + 1)
    return f"{begins}{inner}{f',{inner}'.join(parts)}{inner[:-1]}{ends}"


if __name__ == "__main__":
    KEPT.write_text(described(), encoding="utf-8")
