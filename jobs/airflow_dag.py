"""The nightly run as an Airflow DAG: ingest, embed, cluster, index, then parallel recommend tasks.

In: Airflow 2.9 or newer; its variables `recsys_project` (the project folder, the same on every worker) and
`recsys_parts`; on the workers the environment variables RECSYS_DATABASE and RECSYS_SOURCE__URL.
Out: a DAG `recsys_nightly`. Copy this file into the DAGs folder.

Each task is a command line, so it runs wherever `recsys` is installed. A restarted task resumes where it stopped, and
a finished task that is repeated changes nothing. The part that completes the run publishes it. Train the models with
`recsys train` in a separate DAG, as often as needed.
"""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

PARTS = 4
"""Number of recommend tasks if the variable `recsys_parts` is not set."""
RETRY = {"retries": 3, "retry_delay": timedelta(minutes=5)}
"""Retry after exit codes 75 (store in use, or database unavailable) and 143 (stopped by a signal)."""


def commands(project: str, parts: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the commands by task name: the sequential steps, and the parallel recommend tasks."""
    options = f"-C {shlex.quote(project)} -q"
    steps = {
        "ingest": f'recsys ingest --from-sql "$RECSYS_SOURCE__URL" {options}',
        "embed": f"recsys embed {options}",
        "cluster": f"recsys cluster {options}",
        "index": f"recsys index {options}",
    }
    parallel = {
        f"recommend_{part}": f"recsys recommend --shard-index {part} --num-shards {parts} {options}"
        for part in range(parts)
    }
    return steps, parallel


def dag() -> Any:
    """Create the DAG; needs Airflow."""
    from airflow import DAG
    from airflow.models import Variable

    if find_spec("airflow.providers.standard") is not None:  # Airflow 3
        from airflow.providers.standard.operators.bash import BashOperator
    else:
        from airflow.operators.bash import BashOperator

    project = Variable.get("recsys_project", default_var="/srv/shop")
    steps, parallel = commands(project, int(Variable.get("recsys_parts", default_var=PARTS)))
    with DAG(
        "recsys_nightly",
        schedule="30 2 * * *",
        start_date=datetime(2024, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args=RETRY,
        tags=["recsys"],
    ) as nightly:
        previous: Any = None
        for name, command in steps.items():
            task = BashOperator(task_id=name, bash_command=command)
            if previous is not None:
                previous.set_downstream(task)
            previous = task
        for name, command in parallel.items():
            previous.set_downstream(BashOperator(task_id=name, bash_command=command))
    return nightly


if find_spec("airflow") is not None:  # the package is also installed without Airflow
    recsys_nightly = dag()
