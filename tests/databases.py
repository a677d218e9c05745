"""Databases of their own for tests that commit or kill: copies of the migrated one, gone after."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

LEAVE = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = %s and usename = current_user and backend_type = 'client backend'
"""


@contextmanager
def copy_of(server: str) -> Iterator[str]:
    """The address of a new copy of the server's database, which is dropped at the end.

    Clients that a killed process left behind are ended first, and by us: `with (force)` would
    refuse when a vacuum of the server's own runs in the database, where a plain drop stops it.

    Args:
        server: the address of the migrated database, as SQLAlchemy writes it.
    """
    base, template = server.rsplit("/", 1)
    name = f"t_{uuid4().hex}"
    with psycopg.connect(f"{base.replace('+psycopg', '')}/postgres", autocommit=True) as admin:
        admin.execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield f"{base}/{name}"
        admin.execute(LEAVE, (name,))
        admin.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
