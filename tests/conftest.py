"""One real PostgreSQL for all tests, built by the migrations; a database for each that commits."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from market.app import create_app
from market.auth import keyring
from market.db import PLATFORM, current_scope, database, take_scope
from market.embedded import EmbeddedPostgres
from market.events import Event, EventRow
from market.reactions import REACTIONS
from market.settings import Settings, in_force
from tests.databases import copy_of

REPOSITORY = Path(__file__).parent.parent
SECRET = "a secret for the tests that is long enough"


def migrate(url: str, revision: str = "head") -> None:
    """Bring a database to a revision by the real migrations."""
    config = Config(str(REPOSITORY / "alembic.ini"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, revision)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A server whose database `stumpwork` is migrated: the template of all others."""
    # Not below pytest's own folder, which is closed to the account that the server may run as.
    folder = Path(tempfile.mkdtemp(prefix="stumpwork-tests-"))
    try:
        with EmbeddedPostgres(folder, durable=False) as postgres:
            migrate(postgres.url)
            yield postgres.url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def settings(server: str) -> Settings:
    """What the tests run under."""
    return in_force.open(
        Settings(database_url=server, secret_key=SECRET, allow_private_targets=True)
    )


@pytest.fixture(scope="session", autouse=True)
def _keyring() -> None:
    keyring.open(SECRET)


@pytest.fixture
def db(server: str) -> Iterator[Session]:
    """A session of the platform's whose work, and that of every transaction of the code under test,
    is rolled back when the test ends.
    """
    engine = create_engine(server)
    with engine.connect() as connection, connection.begin() as outer:
        database.pin(connection)
        with Session(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        ) as session:
            take_scope(session, PLATFORM)
            yield session
        database.pin(None)
        outer.rollback()
    engine.dispose()


@pytest.fixture
def fresh_url(server: str) -> Iterator[str]:
    """A database of its own, for a test that commits or kills: made from the template."""
    with copy_of(server) as url:
        yield url


@pytest.fixture
def committed(fresh_url: str) -> Iterator[str]:
    """The database handle, opened on a database of its own: real commits, real threads."""
    database.open(fresh_url, pool_size=16)
    yield fresh_url
    database.close()


@pytest.fixture(scope="session")
def whole_app(settings: Settings) -> Iterator[TestClient[Litestar]]:
    """The whole web application, made once: it keeps nothing of the requests that it answers."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def web(db: Session, whole_app: TestClient[Litestar]) -> TestClient[Litestar]:
    """A caller of the API without a key; its requests are rolled back with `db`."""
    del db
    whole_app.cookies.clear()
    return whole_app


@pytest.fixture
def react(db: Session) -> Callable[[], list[str]]:
    """Run, here and now, every job that follows from what has happened; their names, in order."""

    def run() -> list[str]:
        ran: list[str] = []
        for _ in range(200):
            row = (
                db.query(EventRow)
                .filter(EventRow.relayed_at.is_(None))
                .order_by(EventRow.id)
                .first()
            )
            if row is None:
                return ran
            row.relayed_at = row.at
            db.flush()
            token = current_scope.set(PLATFORM)
            try:
                for job in REACTIONS.get(Event(row.type), ()):
                    job(str(row.subject_id))
                    ran.append(job.name)
            finally:
                current_scope.reset(token)
            db.expire_all()
        raise AssertionError("events kept following from events 200 times")

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data sets beside the checkout; tests that need them say when they are absent."""
    folder = Path(os.environ.get("STUMPWORK_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}: this test did not run")
    return folder
