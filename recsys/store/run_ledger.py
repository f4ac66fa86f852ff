"""The run ledger: what identifies a run, which of its shards are written, and who may write it.

In: rows of `runs` and `run_shards`. Out: the manifest of a run, its written shards, ids and checksums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from recsys.errors import LeaseHeldError, NotFoundError
from recsys.store import tables

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass

TABLES_BY_KIND = {
    "recommend": (tables.recommendations_all,),
    "cluster": (tables.clusters_all, tables.cluster_members_all),
    "similar": (tables.similar_products_all,),
}
"""The tables that hold the rows of each kind of run."""


@dataclass(frozen=True)
class Manifest:
    """What decides a run's rows. An unfinished run is gone on with only when all of it is the same.

    Attributes:
        model_version: versions of the models in use.
        data_fingerprint: names the data.
        config_hash: names the settings that decide what is in a list.
        extra: whatever else decides it, such as k.
    """

    model_version: str
    data_fingerprint: str
    config_hash: str
    extra: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_row(run: RowMapping) -> Manifest:
        """What a run's row says."""
        return Manifest(run["model_version"], run["data_fingerprint"], run["config_hash"], run["extra"] or {})


def written_shards(connection: Connection, run_id: str) -> set[int]:
    """The shards of a run that are written."""
    shards = tables.run_shards
    return set(connection.execute(sa.select(shards.c.shard_id).where(shards.c.run_id == run_id)).scalars())


def checksum(frame: pl.DataFrame) -> str:
    """What names the rows of a shard: names, types, values and order count, how they lie in memory does not."""
    told = sha256(repr(dict(frame.schema)).encode())
    for column in frame.iter_columns():
        told.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            full = column.fill_null("")
            told.update(full.str.len_bytes().to_numpy().astype("<u4").tobytes())
            told.update(_text(full))
        else:
            physical = column.to_physical().fill_null(0).to_numpy()
            told.update(physical.astype(physical.dtype.newbyteorder("<")).tobytes())
    return told.hexdigest()[:32]


def _text(column: pl.Series) -> memoryview:
    """All texts of a column without NULL, one after the other, in UTF-8."""
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if len(array) else memoryview(b"")


def new_run_id(now: datetime, newest: str | None) -> str:
    """A sortable id from the database's clock, later than every earlier one even when that clock jumps back."""
    made = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}"
    if newest is None or made > newest:
        return made
    digits = int(newest.replace("T", "")) + 1
    text = f"{digits:017d}"
    return f"{text[:8]}T{text[8:]}"


def release_unfinished_runs(engine: Engine) -> None:
    """Note that nobody writes the unfinished runs; to be called while no other process works on the store."""
    runs = tables.runs
    try:
        with engine.begin() as connection:
            connection.execute(sa.update(runs).where(runs.c.state == "building").values(host=""))
    except NotFoundError:
        return  # a store without tables has no unfinished run; whoever reads from it will say so


def refuse_foreign_run(run: RowMapping, writer: str, *, same: bool) -> None:
    """Leave an unfinished run alone that others are writing.

    Raises:
        LeaseHeldError: they are: it has a writer of another name, or one of this name but other data or settings.
    """
    if run["host"] and (run["host"] != writer or not same):
        raise LeaseHeldError(f"run {run['run_id']} is being written ({run['host']}); try again when it is done")
