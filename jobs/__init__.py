"""Entry points for schedulers; each returns an exit code.

`nightly`, `rebuild_embeddings` and `generate_recommendations` run commands; `airflow_dag` is a DAG for Airflow.
"""
