"""The run ledger: the identity of a run, its written shards, and the process that may write it.

In: rows of `runs` and `run_shards`. Out: the manifest of a run, its written shards, ids and checksums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from recsys.errors import LeaseHeldError, NotFoundError
from recsys.store import tables

TABLES_BY_KIND = {
    "recommend": (tables.recommendations_all,),
    "cluster": (tables.clusters_all, tables.cluster_members_all),
    "similar": (tables.similar_products_all,),
}
"""Tables that store the rows of each kind of run."""


@dataclass(frozen=True)
class RunManifest:
    """Inputs that determine a run's rows. An unfinished run is resumed only if all of them match.

    Attributes:
        model_version: versions of the models in use.
        data_fingerprint: fingerprint of the data.
        config_hash: hash of the settings that affect the rows.
        extra: further inputs that affect the rows, such as k.
    """

    model_version: str
    data_fingerprint: str
    config_hash: str
    extra: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_row(run: RowMapping) -> RunManifest:
        """Read the manifest of a row of `runs`."""
        return RunManifest(run["model_version"], run["data_fingerprint"], run["config_hash"], run["extra"] or {})


def written_shards(connection: Connection, run_id: str) -> set[int]:
    """Return the ids of the written shards of a run."""
    shards = tables.run_shards
    return set(connection.execute(sa.select(shards.c.shard_id).where(shards.c.run_id == run_id)).scalars())


def frame_checksum(frame: pl.DataFrame) -> str:
    """Compute a checksum of a shard's rows.

    Column names, types, values and order count; the memory layout does not.
    """
    digest = sha256(repr(dict(frame.schema)).encode())
    for column in frame.iter_columns():
        digest.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            texts = column.fill_null("")
            digest.update(texts.str.len_bytes().to_numpy().astype("<u4").tobytes())
            digest.update(_concatenated_utf8(texts))
        else:
            physical = column.to_physical().fill_null(0).to_numpy()
            digest.update(physical.astype(physical.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:32]


def _concatenated_utf8(column: pl.Series) -> memoryview:
    """Return all texts of a column without NULL, concatenated, in UTF-8."""
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if len(array) else memoryview(b"")


def new_run_id(now: datetime, newest: str | None) -> str:
    """Create a sortable run id from the database's clock, always later than `newest`.

    The id also increases when that clock is set back.
    """
    run_id = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}"
    if newest is None or run_id > newest:
        return run_id
    digits = int(newest.replace("T", "")) + 1
    text = f"{digits:017d}"
    return f"{text[:8]}T{text[8:]}"


def release_unfinished_runs(engine: Engine) -> None:
    """Clear the writer of all unfinished runs; call it while no other process works on the store."""
    runs = tables.runs
    try:
        with engine.begin() as connection:
            connection.execute(sa.update(runs).where(runs.c.state == "building").values(host=""))
    except NotFoundError:
        return  # a store without tables has no unfinished run; reading from it raises the error


def refuse_foreign_run(run: RowMapping, writer: str, *, same_manifest: bool) -> None:
    """Refuse an unfinished run that another process is writing.

    Raises:
        LeaseHeldError: the run has another writer, or the same writer but other data or settings.
    """
    if run["host"] and (run["host"] != writer or not same_manifest):
        raise LeaseHeldError(f"run {run['run_id']} is being written ({run['host']}); try again when it has finished")
