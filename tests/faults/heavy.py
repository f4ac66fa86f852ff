"""What a process under test needs, imported once by the process that all of them are forked from.

In: nothing. Out: nothing.
"""

import alembic.command  # noqa: F401
import alembic.config  # noqa: F401
import psycopg  # noqa: F401
import pytest  # noqa: F401
import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401
import torch  # noqa: F401

import recsys.cli.context  # noqa: F401
import recsys.data.image_store  # noqa: F401
import recsys.db.migrate  # noqa: F401
import recsys.encoder.training.checkpoint  # noqa: F401
import recsys.pipeline.train_state  # noqa: F401
import recsys.vectors.embeddings.table  # noqa: F401
import tests.faults.scenarios  # noqa: F401
