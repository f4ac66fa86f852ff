"""One module per command, each a function `Project -> CommandResult`: the only package that joins the others.

`project` holds what the commands share: store, images, dataset, models, each loaded once. `result` is what they return.
The other modules are named after their command; `ingest_sql`, `similar_batch`, `similar_writer`, `train_job`,
`train_recipe`, `train_state`, `evaluate_result`, `recommend_task`, `recommend_stats`, `recommend_incremental` and
`report_data` hold the parts of larger commands.
"""
