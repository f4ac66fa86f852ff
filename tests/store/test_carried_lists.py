"""Lists taken over from run to run: exactly those of the users named, at whatever edges, on every database."""

from __future__ import annotations

import pytest

from recsys.store import carried_lists as kept
from recsys.store import recommendations as lists
from recsys.store import run_parts as parts
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.store import samples

USERS = [f"u{number:02d}" for number in range(24)]
ROWS = """SELECT user_id, rank, product_id, score, reason FROM recommendations_all WHERE run_id = :run ORDER BY 1, 2"""


@pytest.mark.parametrize("step", [2, 3, 24])
@pytest.mark.parametrize("at", [1, 4, 500])
def test_the_lists_of_the_users_named_are_copied_and_no_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: int, at: int
) -> None:
    from recsys.db.engine import fetch_rows

    monkeypatch.setattr(kept, "_IDS_PER_STATEMENT", at)
    everybody = samples.lists(**{user: [("a", 0.5), ("b", 0.25)] for user in USERS}, default=[("a", 0.1)])
    first = samples.finished(store, everybody, users=24)
    stay = USERS[1:22:step]
    others = [user for user in USERS if stay[0] < user < stay[-1] and user not in stay]
    with store.begin_run("recommend", RunManifest("m", "next", "c")) as run:
        made = samples.lists(u00=[("b", 0.9)], default=[("a", 0.1)])
        assert run.write_shard(0, made, n_users=24, carried_over=kept.CarriedOverLists(first.run_id, stay, others))
        assert not run.write_shard(0, made, n_users=24, carried_over=kept.CarriedOverLists(first.run_id, stay, others))
        run.finish({"users": 1 + len(stay)})
    told = fetch_rows(store.engine, ROWS, {"run": run.run_id})
    assert [row[0] for row in told] == ["__default__", "u00", *(user for user in stay for _ in range(2))]
    assert [row for row in fetch_rows(store.engine, ROWS, {"run": first.run_id}) if row[0] in stay] == told[2:]
    assert store.run(run.run_id)["rows_written"] == len(told)
    with store.reader() as connection:
        assert lists.users_with_lists(connection, first.run_id, "u03", "u05", placement="default") == {
            "u03",
            "u04",
            "u05",
        }
        assert lists.users_with_products(connection, first.run_id, ["b", "c"]) == USERS
        assert lists.users_with_products(connection, run.run_id, ["c"]) == []


def test_who_helps_knows_what_is_done(store: Store) -> None:
    with store.begin_run("recommend", RunManifest("m", "d", "c")) as run:
        run.write_shard(7, samples.lists(u1=[("a", 1.0)]), n_users=1)
        hand = parts.attach_worker(store, run.run_id, writer=run.writer)
        assert (hand.finished_shards, hand.kind, hand.placement) == ({7}, "recommend", "default")
