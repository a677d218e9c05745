"""The public data sets beside the checkout, for simulations on real answers."""

import os
from pathlib import Path

import pyarrow.parquet as pq


def quality_folder() -> Path:
    """Where the public sets on quality lie.

    Raises: FileNotFoundError, saying where they were looked for.
    """
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("STUMPWORK_SHARED_DATA", beside)) / "quality"
    if not folder.is_dir():
        raise FileNotFoundError(f"no public sets on quality at {folder}")
    return folder


def columns(name: str, *wanted: str) -> tuple[list[object], ...]:
    """Columns of one table of a public set, such as `metr_runs/runs`, in the order asked for."""
    table = pq.read_table(quality_folder() / f"{name}.parquet", columns=list(wanted))
    return tuple(table.column(one).to_pylist() for one in wanted)
