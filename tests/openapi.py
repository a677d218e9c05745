"""The description of the API as it is kept: `python -m tests.openapi` writes it anew."""

import json
from pathlib import Path

from litestar.testing import TestClient

from market.app import create_app
from market.settings import Settings

KEPT = Path(__file__).parent.parent / "docs" / "openapi.json"


def described() -> str:
    """What the service says of itself, one line for each thing, in a fixed order."""
    settings = Settings(database_url="postgresql+psycopg://nowhere", secret_key="x" * 32)
    with TestClient(create_app(settings)) as client:
        found = client.get("/docs/openapi.json").json()
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    KEPT.write_text(described(), encoding="utf-8")
