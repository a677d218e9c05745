"""Brings a database to the newest version of its tables: `python -m market.upgrade`."""

import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from market.cluster import StartRefused
from market.errors import MarketError
from market.settings import PREFIX, read_settings

OLDEST_POSTGRES = 15


class DatabaseNotUsable(StartRefused):
    """The database given by URL does not answer, or is too old."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database in {PREFIX}DATABASE_URL cannot be used: {reason}")
        self.reason = reason


def refuse_unusable(database_url: str) -> None:
    """A database by URL must answer, and must be new enough.

    Raises:
        DatabaseNotUsable: without the URL, which may hold a password.
    """
    try:
        url = make_url(database_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=10) as it:
            version = it.info.server_version // 10_000
    except (psycopg.Error, ArgumentError) as error:
        reason = str(error).strip().splitlines()[0].strip()
        if isinstance(error, ArgumentError):
            reason = "it is not a URL like postgresql+psycopg://role:password@host:5432/database"
        raise DatabaseNotUsable(reason) from error
    if version < OLDEST_POSTGRES:
        raise DatabaseNotUsable(f"it is PostgreSQL {version}, {OLDEST_POSTGRES} is the oldest")


def upgrade_database(database_url: str) -> None:
    """Apply the migrations that are missing; a database that has them all is left as it is."""
    # Alembic takes most of a second to import, and only this function needs it.
    from alembic import command
    from alembic.config import Config

    spec = find_spec("migrations")
    assert spec is not None
    assert spec.origin is not None
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent))
    # The percent sign is the configuration parser's own escape.
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    command.upgrade(config, "head")


def main() -> int:
    """Upgrade the database of the settings, for a deployment's own step before its processes."""
    try:
        url = read_settings().database_url
        refuse_unusable(url)
        upgrade_database(url)
    except (StartRefused, MarketError) as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
