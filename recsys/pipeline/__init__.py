"""The verbs as straight functions, `Bench -> Report`: the only place where the rooms are joined.

`project` makes a project, `intake` reads data, `training` trains, `space` embeds, groups and searches, `lists`
recommends, `ledger` publishes, `judgement` evaluates, `night` is the whole chain, `showcase` the demo, `health` the
doctor, `reporting` writes the page that `gathering` collects. `bench` holds what they share: the store, the data, the
models, each loaded once.
"""
