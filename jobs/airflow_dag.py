"""The night as an Airflow DAG: ingest, vectors, groups, index, then the lists in parts on as many workers as wanted.

In: Airflow 2.9 or newer; its variables `recsys_project` (the project folder, the same on every worker) and
`recsys_parts`; on the workers the environment variables RECSYS_DATABASE and RECSYS_SOURCE__URL.
Out: a DAG `recsys_nightly`. Copy this file into the folder of DAGs.

Each task is a command line, so it runs wherever `recsys` is installed. A task that is started again goes on where it
stopped, and one that was done changes nothing. The part that completes the run publishes it. Models are trained by a
DAG of their own, as often as wanted: `recsys train`.
"""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

PARTS = 4
"""Parts of the lists when the variable `recsys_parts` is not set."""
RETRY = {"retries": 3, "retry_delay": timedelta(minutes=5)}
"""Exit code 75 (the store is in use, the database is away) and 143 (stopped) mean: call again."""


def commands(project: str, parts: int) -> tuple[dict[str, str], dict[str, str]]:
    """The tasks by name: those that run one after the other, and the parts of the lists, which run side by side."""
    place = f"-C {shlex.quote(project)} -q"
    steps = {
        "ingest": f'recsys ingest --from-sql "$RECSYS_SOURCE__URL" {place}',
        "embed": f"recsys embed {place}",
        "cluster": f"recsys cluster {place}",
        "index": f"recsys index {place}",
    }
    lists = {
        f"recommend_{part}": f"recsys recommend --shard-index {part} --num-shards {parts} {place}"
        for part in range(parts)
    }
    return steps, lists


def dag() -> Any:
    """The DAG; needs Airflow."""
    from airflow import DAG
    from airflow.models import Variable

    if find_spec("airflow.providers.standard") is not None:  # Airflow 3
        from airflow.providers.standard.operators.bash import BashOperator
    else:
        from airflow.operators.bash import BashOperator

    project = Variable.get("recsys_project", default_var="/srv/shop")
    steps, lists = commands(project, int(Variable.get("recsys_parts", default_var=PARTS)))
    with DAG(
        "recsys_nightly",
        schedule="30 2 * * *",
        start_date=datetime(2024, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args=RETRY,
        tags=["recsys"],
    ) as made:
        before: Any = None
        for name, command in steps.items():
            task = BashOperator(task_id=name, bash_command=command)
            if before is not None:
                before.set_downstream(task)
            before = task
        for name, command in lists.items():
            before.set_downstream(BashOperator(task_id=name, bash_command=command))
    return made


if find_spec("airflow") is not None:  # this package is also installed where no Airflow is
    recsys_nightly = dag()
