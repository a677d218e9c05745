"""Runs the migrations, under a lock timeout, and compares the models with what they built."""

from alembic import context
from sqlalchemy import MetaData, create_engine, text

from market import tables
from market.db import NAMING
from market.settings import read_settings
from payouts.bank_models import CardDispute
from payouts.invoice_models import FundingInvoice
from payouts.ledger_models import JournalEntry
from payouts.models import Base as PayoutsBase
from payouts.proof_models import Proof

# The other files of tables in this schema, which are imported by being asked.
ASKED = (CardDispute, FundingInvoice, JournalEntry, Proof)
assert all(table.metadata is PayoutsBase.metadata for table in ASKED)

SCHEMAS = {"market", "payouts"}


def _all_tables() -> MetaData:
    # One collection, so that the names of constraints in migrations follow the same convention.
    whole = MetaData(naming_convention=NAMING)
    for base in (tables.Base, PayoutsBase):
        for table in base.metadata.sorted_tables:
            table.to_metadata(whole)
    return whole


def _ours(name: str | None, kind: str, parents: object) -> bool:
    del parents
    return name in SCHEMAS if kind == "schema" else True


def run() -> None:
    """Upgrade, downgrade or compare the database that the caller or the environment names."""
    url = context.config.get_main_option("sqlalchemy.url") or read_settings().database_url
    engine = create_engine(url)
    with engine.connect() as connection:
        # A migration that waits for a lock makes every request behind it wait too.
        connection.execute(text("set lock_timeout = '10s'"))
        connection.execute(text("create schema if not exists market"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=_all_tables(),
            include_schemas=True,
            include_name=_ours,
            version_table="schema_version",
            version_table_schema="market",
            compare_type=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
