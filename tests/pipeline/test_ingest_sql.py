"""A shop's own tables: read in batches, from where the last reading ended, through kills and failing databases."""

from __future__ import annotations

import json
import multiprocessing
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys.data import ingest as whole
from recsys.data import input_sources as sources
from recsys.data.sql_queries import SourceQuery
from recsys.db.engine import connect, fetch_rows, read_frame
from recsys.db.source_reader import SourceReader
from recsys.errors import (
    ConfigError,
    DatabaseUnavailableError,
    DataContractError,
    LeaseHeldError,
    NotFoundError,
    UsageError,
)
from recsys.pipeline import ingest_sql as reading
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.store import watermarks as marks
from recsys.store.input_tables import write_inputs
from recsys.store.store import Store
from tests.pipeline import shops
from tests.pipeline.shops import DAY, EVENTS, PRODUCTS, START, add, held, sales, taken, text

COUNT = 90
PLAIN = EVENTS.partition(" WHERE")[0]


@pytest.fixture
def shop(database_url: str) -> str:
    shops.open_shop(database_url)
    add(database_url, "sale", sales(COUNT))
    return database_url


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def _sums(counts: dict[str, Any]) -> None:
    for table in counts.values():
        assert table["rows_in"] == table["used"] + table["rejected"] + table["filtered"]
        assert table["rejected"] == sum(table["rejected_by"].values())


def _at_once(shop: str, store: str) -> dict[str, list[tuple[Any, ...]]]:
    """The oracle: all rows in one frame, by the way files take."""
    engine = connect(shop)
    frames = {
        "products": read_frame(engine, PRODUCTS.partition(" WHERE")[0]),
        "events": read_frame(engine, PLAIN + " ORDER BY sold"),
    }
    engine.dispose()
    from recsys.config import DataSettings

    judged = whole.ingest(sources.inputs_from_frames(frames), settings=DataSettings(max_bad_fraction=1))
    with Store.open(store) as opened:
        opened.init()
        write_inputs(opened, judged.accepted, judged.rejected, sources=judged.sources)
    return held(store)


@pytest.mark.parametrize("query", [EVENTS, PLAIN], ids=["since", "as it stands"])
@pytest.mark.parametrize("batch", [7, 1000])
def test_batches_give_what_one_reading_of_all_gives(shop: str, tmp_path: Path, query: str, batch: int) -> None:
    result = taken(tmp_path, shop, source__events_query=query, source__batch_rows=batch)
    _sums(result.counts)
    assert result.counts["events"]["rows_in"] == COUNT
    assert result.counts["events"]["rejected_by"] == {"negative_number": 7, "unknown_product": 8}
    expected, found = _at_once(shop, f"sqlite:///{tmp_path / 'other.db'}"), held(f"sqlite:///{tmp_path / 'store.db'}")
    assert sorted(row[:-1] for row in found["events"]) == sorted(row[:-1] for row in expected["events"])
    assert _settled(found)["events"] == _settled(expected)["events"]
    assert any(row[5] for row in found["events"])  # some do share a key
    assert found["products"] == expected["products"]
    assert sorted(row[2:] for row in found["rejected"]) == sorted(row[2:] for row in expected["rejected"])


def test_a_full_reading_makes_the_store_equal_to_the_source(shop: str, store: str, tmp_path: Path) -> None:
    taken(tmp_path, shop)
    engine = connect(shop)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM sale WHERE sku = 'p1'")
        connection.exec_driver_sql("DELETE FROM article WHERE sku = 'p1'")
    engine.dispose()
    kept = [row for row in held(store)["events"] if "p1" not in row]
    assert 0 < len(kept) < len(held(store)["events"])
    taken(tmp_path, shop)
    assert len(held(store)["events"]) > len(kept)  # without --full nothing goes
    result = taken(tmp_path, shop, full=True)
    assert held(store)["events"] == kept
    assert any("events that are not in the source were deleted" in note for note in result.notes)
    assert "products: 1 products" in " ".join(result.notes) or "1 products are not in the source" in " ".join(
        result.notes
    )
    opened = connect(store)
    sold = dict(read_frame(opened, "SELECT product_id, available FROM products").iter_rows())
    opened.dispose()
    assert not sold["p1"] and all(available for key, available in sold.items() if key != "p1")


def test_a_source_of_events_alone_gives_the_catalogue(shop: str, store: str, tmp_path: Path) -> None:
    result = taken(tmp_path, shop, source__products_query=None)
    assert any("there is no catalogue" in warning for warning in result.warnings)
    opened = connect(store)
    ids = read_frame(opened, "SELECT product_id FROM products")["product_id"].to_list()
    events = read_frame(opened, "SELECT DISTINCT product_id FROM events")["product_id"].to_list()
    opened.dispose()
    assert sorted(ids) == sorted(events) and ids


def test_a_night_reads_only_what_is_new(shop: str, store: str, tmp_path: Path) -> None:
    taken(tmp_path, shop)
    before = held(store)
    late = START + 20 * DAY
    add(shop, "sale", [("new", "p1", text(late), 1, ""), ("late", "p1", text(late - DAY), 1, "")])
    add(shop, "article", [("p9", "New", text(late))])
    result = taken(tmp_path, shop, source__overlap_hours=1)
    assert {name: each["rows_in"] for name, each in result.counts.items()} == {"products": 6, "events": 23}
    _sums(result.counts)
    assert any("events: read from 2023-11-15T02:" in note for note in result.notes)
    again = taken(tmp_path, shop, source__overlap_hours=48)
    assert {name: each["rows_in"] for name, each in again.counts.items()} == {"products": 1, "events": 2}
    now = held(store)
    assert len(now["events"]) == len(before["events"]) + 2
    assert set(before["events"]) < set(now["events"])
    full = taken(tmp_path, shop, full=True)
    assert full.counts["events"]["rows_in"] == COUNT + 2
    assert {name: held(store)[name] for name in ("events", "marks")} == {
        name: now[name] for name in ("events", "marks")
    }


def test_another_query_is_read_from_its_start(shop: str, tmp_path: Path) -> None:
    taken(tmp_path, shop)
    result = taken(tmp_path, shop, source__events_query=EVENTS + " AND customer <> 'u0'")
    assert result.counts["events"]["rows_in"] < COUNT
    assert result.counts["products"]["rows_in"] == 5
    assert "events: another query or database than last time, read from the start" in result.notes
    result = taken(tmp_path, shop, source__events_query=f"-- a remark, other spaces\n{EVENTS}   AND customer <> 'u0' ;")
    assert not any("another query" in note for note in result.notes)


def test_a_dry_run_moves_nothing(shop: str, store: str, tmp_path: Path) -> None:
    with shops.open_project(tmp_path, shop) as project:
        result = ingest(project, IngestRequest.from_options((), sql=True), dry_run=True)
    assert result.counts["events"]["used"] == 75
    assert held(store) == {"products": [], "events": [], "rejected": [], "marks": []}


def test_a_clock_ahead_does_not_push_the_mark_ahead(shop: str, store: str, tmp_path: Path) -> None:
    add(shop, "article", [("p7", "From the future", "2999-01-01 00:00:00"), ("p8", "x", text(int(time.time()) + 9000))])
    taken(tmp_path, shop)
    newest = dict((row[0], row[1]) for row in held(store)["marks"])["sql/products"]
    assert newest <= datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.999")


def _settled(there: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Without what is the database's to say: in which order rows of the same second come."""
    return {
        **there,
        "events": sorted(row[:5] + row[6:] for row in there["events"]),
        "rejected": sorted(row[:1] + row[2:] for row in there["rejected"]),
    }


class _Stopped(Exception):
    pass


def _stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop as a kill does: between two transactions, whatever is held is lost."""
    real, done = marks.write_batch, iter(range(after))

    def write(*given: Any, **named: Any) -> None:
        if next(done, None) is None:
            raise _Stopped
        real(*given, **named)

    monkeypatch.setattr(reading.watermarks, "write_batch", write)


@pytest.mark.parametrize("query", [EVENTS, PLAIN], ids=["since", "as it stands"])
def test_stopped_anywhere_it_goes_on_to_the_same_end(
    shop: str, tmp_path: Path, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"source__events_query": query, "source__batch_rows": 11, "source__overlap_hours": 0.2}
    expected_report = taken(tmp_path, shop, f"sqlite:///{tmp_path / 'whole.db'}", **settings)
    expected = held(f"sqlite:///{tmp_path / 'whole.db'}")
    for after in (1, 5, 8):
        url = f"sqlite:///{tmp_path / f'{after}.db'}"
        for more in (after, 1):  # stopped twice
            with monkeypatch.context() as patch, pytest.raises(_Stopped):
                _stopping(patch, more)
                taken(tmp_path, shop, url, **settings)
        result = taken(tmp_path, shop, url, **settings)
        if query == EVENTS:  # read in an order that leaves nothing to chance
            assert held(url) == expected, after
        assert _settled(held(url)) == _settled(expected), after
        assert result.counts["events"] == expected_report.counts["events"]
        _sums(result.counts)
        if query == EVENTS and after > 1:
            assert any("an interrupted reading went on at" in note for note in result.notes)


def _child(folder: str, shop: str, store: str, pipe: Connection) -> None:
    real = marks.write_batch

    def write(*given: Any, **named: Any) -> None:
        real(*given, **named)
        pipe.send("written")

    reading.watermarks.write_batch = write  # type: ignore[attr-defined]
    taken(Path(folder), shop, store, source__batch_rows=5)


@pytest.mark.faults
def test_killed_it_goes_on_to_the_same_end(database_url: str, tmp_path: Path) -> None:
    """The store is killed in: on the same kind of database as the shop's, which is another database of it."""
    shop = f"sqlite:///{tmp_path / 'source.db'}"
    shops.open_shop(shop)
    add(shop, "sale", sales(COUNT))
    taken(tmp_path, shop, source__batch_rows=5)
    expected = held(f"sqlite:///{tmp_path / 'store.db'}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline.test_ingest_sql"])
    shops.open_project(tmp_path, shop, database_url).close()
    for after in (1, 4, 5):
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(str(tmp_path), shop, database_url, theirs), daemon=True)
        child.start()
        theirs.close()
        for _ in range(after):
            ours.recv()
        child.kill()
        child.join()
        ours.close()
        for _ in range(100):  # a server needs a moment to see that its client is gone
            try:
                Store.open(database_url).close()
                break
            except LeaseHeldError:
                time.sleep(0.05)
    reached = held(database_url)["marks"][0]
    assert reached[:1] == ("sql/events",) and reached[2] and json.loads(reached[3])["rows_in"] >= 9
    result = taken(tmp_path, shop, database_url, source__batch_rows=5)
    found = held(database_url)
    for name in ("products", "rejected"):
        assert found[name] == expected[name]
    assert [row[:1] + row[2:] for row in found["events"]] == [row[:1] + row[2:] for row in expected["events"]]
    assert result.counts["events"]["rows_in"] == COUNT
    _sums(result.counts)


def test_a_source_that_goes_away_leaves_what_it_gave(postgres_url: str, tmp_path: Path, store: str) -> None:
    shops.open_shop(postgres_url)
    add(postgres_url, "sale", sales(COUNT))
    other = connect(postgres_url)

    class Cut(reading.SqlIngestion):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            real, self.told = self.progress, 0

            def progress(done: int, total: int, /, **figures: float) -> None:
                real(done, total, **figures)
                self.told += 1
                if self.told == 4:
                    fetch_rows(
                        other, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    )

            self.progress = progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.pipeline.ingest.SqlIngestion", Cut)
        with pytest.raises(DatabaseUnavailableError) as gone:
            taken(tmp_path, postgres_url, source__batch_rows=7)
    other.dispose()
    assert gone.value.exit_code == 75
    there = held(store)
    assert 0 < len(there["events"]) < 75 and there["marks"][0][2]
    result = taken(tmp_path, postgres_url, source__batch_rows=7)
    assert result.counts["events"]["rows_in"] == COUNT
    assert len(held(store)["events"]) == 75


def test_too_many_rejects_end_it_and_are_not_read_past(shop: str, store: str, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="15 of 90 rows of sql/events were rejected, more than .* allows"):
        taken(tmp_path, shop, data__max_bad_fraction=0.05)
    assert [row[0] for row in held(store)["marks"]] == ["sql/products"]
    assert held(store)["events"] == []  # one batch: nothing of it is written
    for _ in range(2):  # the second does not begin behind the trouble
        with pytest.raises(DataContractError, match="15 of 90 rows"):
            taken(tmp_path, shop, data__max_bad_fraction=0.05, source__batch_rows=10)
    assert [row[1:3] for row in held(store)["marks"] if row[0] == "sql/events"] == [(None, None)]


def test_one_moment_for_all_tables(
    database_url: str, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sold while products are read names products that were not read yet; it waits for the next night."""
    shops.open_shop(database_url)
    add(database_url, "sale", sales(12))
    if database_url.startswith("sqlite"):
        engine = connect(database_url)  # as shops run it: readers and writers do not wait for each other
        engine.dispose()
    real = reading.SqlIngestion.read_table

    def take(self: reading.SqlIngestion, select: Any) -> None:
        real(self, select)
        if select.table == "products":
            add(database_url, "article", [("fresh", "Fresh", text(START + DAY))])
            add(database_url, "sale", [("u", "fresh", text(START + DAY), 1, "")])

    with monkeypatch.context() as patch:
        patch.setattr(reading.SqlIngestion, "read_table", take)
        result = taken(tmp_path, database_url)
    assert result.counts["events"]["rows_in"] == 12
    result = taken(tmp_path, database_url)
    assert (result.counts["events"]["rows_in"], result.counts["products"]["rows_in"]) == (13, 6)
    assert "fresh" in [row[2] for row in held(store)["events"]]


def test_nothing_since_although_something_is_known(tmp_path: Path) -> None:
    shop = f"sqlite:///{tmp_path / 'shop.db'}"
    shops.open_shop(shop)
    add(shop, "sale", sales(12))
    taken(tmp_path, shop)
    shops.asked(shop, "SELECT 1")
    engine = connect(shop)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM sale")
    engine.dispose()
    result = taken(tmp_path, shop)
    assert result.counts["events"]["rows_in"] == 0
    assert any("although one of 2023-11-14T22:43:20Z is known" in warning for warning in result.warnings)


WRONG: list[tuple[dict[str, str], type[Exception], str]] = [
    ({"events": "SELEC 1"}, UsageError, "events_query: the database refuses it: .*SELEC.*; correct the SELECT"),
    ({"events": "SELECT * FROM nowhere"}, UsageError, "events_query: the database refuses it: .*nowhere"),
    ({"events": "SELECT * FROM nowhere WHERE x > :since"}, UsageError, "events_query: .*nowhere"),
    ({"events": EVENTS.replace("sold AS", "sould AS")}, UsageError, "events_query: .*sould"),
    ({"events": EVENTS.replace("occurred_at", "at")}, UsageError, "has no column occurred_at; rename one"),
    ({"events": PLAIN.replace("occurred_at", "at")}, UsageError, "has no column occurred_at; rename one"),
    ({"products": PRODUCTS.replace("updated_at", "at")}, UsageError, "mentions :since but has no column updated_at"),
    ({"events": PLAIN.replace("quantity", "user_id")}, UsageError, "names the column 'user_id' twice"),
    ({"events": EVENTS.replace("quantity", "user_id")}, UsageError,
     "names the column 'user_id' twice|Duplicate column name 'user_id'"),
    ({"events": "DELETE FROM sale"}, UsageError, "events_query: "),
    ({"events": "DELETE FROM sale RETURNING customer AS user_id, sku AS product_id, sold AS occurred_at"},
     UsageError, "events_query: "),
    ({"events": "SELECT 1; DELETE FROM sale"}, UsageError, "events_query: "),
    ({"events": f"{EVENTS}; DELETE FROM sale"}, UsageError, "events_query: "),
    ({"events": " -- only a remark :since"}, UsageError, "events_query is empty"),
    ({"events": EVENTS.replace(":since", ":sinc")}, UsageError, "events_query: .*"),
    ({"events": EVENTS.replace("sold >= :since", "1 = 0 AND sold >= :since")}, DataContractError,
     "sql/events holds no rows, there are no events; see whether the query compares"),
    ({"events": PLAIN + " WHERE 1 = 0"}, DataContractError, "sql/events holds no rows, there are no events; check"),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_what_is_wrong_is_said(shop: str, tmp_path: Path, place: int) -> None:
    wrong, kind, words = WRONG[place]
    settings = {f"source__{table}_query": query for table, query in wrong.items()}
    with pytest.raises(kind, match=words) as caught:
        taken(tmp_path, shop, **settings)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)  # type: ignore[attr-defined]
    assert shops.asked(shop, "SELECT COUNT(*) FROM sale") == [(COUNT,)]


def test_a_function_that_writes_is_refused(postgres_url: str, tmp_path: Path) -> None:
    shops.open_shop(postgres_url)
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE bills")
    engine.dispose()
    with pytest.raises(UsageError, match="a query that writes is refused .*read-only transaction.*; write one SELECT"):
        taken(tmp_path, postgres_url, source__products_query="SELECT nextval('bills') AS product_id")


def test_the_store_is_no_source(shop: str, tmp_path: Path) -> None:
    for address in (shop, shop.replace("sqlite:///", "sqlite:////").replace("postgresql:", "postgres:")):
        with pytest.raises((UsageError, ConfigError), match="the source is the store's own database"):
            opened = shops.open_project(tmp_path, shop)
            with opened, Store.open(shop, lease=False) as same:
                opened.__dict__["store"] = same
                opened.settings = opened.settings.model_copy(
                    update={"source": opened.settings.source.model_copy(update={"url": _secret(address)})}
                )
                ingest(opened, IngestRequest.from_options((), sql=True))


def _secret(url: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(url)


def test_the_advice_names_the_source(tmp_path: Path, postgres_server: str) -> None:
    with pytest.raises(ConfigError, match=r"in \[source\] url"):
        SourceReader(postgres_server.format(name="nowhere"))
    with pytest.raises(NotFoundError, match="does not exist"):
        SourceReader(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(UsageError, match="--full goes with --from-sql"):
        IngestRequest.from_options([tmp_path], full=True)
    with shops.open_project(tmp_path, "sqlite://") as project:
        project.settings = project.settings.model_copy(update={"source": type(project.settings.source)()})
        with pytest.raises(ConfigError, match=r"nothing to ingest: .* or set \[source\] url"):
            ingest(project, IngestRequest.from_options(()))


def test_times_in_several_forms_do_not_sort(tmp_path: Path, store: str) -> None:
    shop = f"sqlite:///{tmp_path / 'shop.db'}"
    shops.open_shop(shop)
    add(shop, "sale", sales(12))
    add(shop, "sale", [("u", "p1", "2023-2-1", 1, "")])
    for batch in (1, 100):
        with pytest.raises(UsageError, match="not in order of time, so the column is written in several forms"):
            taken(tmp_path, shop, source__batch_rows=batch)
        assert [row for row in held(store)["marks"] if row[0] == "sql/events" and row[2]] == []
    mended = EVENTS.replace("sold AS", "substr(sold, 1, 10) AS").replace("WHERE", "WHERE sold <> '2023-2-1' AND")
    assert taken(tmp_path, shop, source__events_query=mended).counts["events"]["rows_in"] == 12


def _peak(shop: str, store: str, folder: str, pipe: Connection) -> None:
    import resource

    taken(Path(folder), shop, store, source__batch_rows=1000)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def test_ten_times_the_rows_take_the_same_memory(database_url: str, tmp_path: Path) -> None:
    """Rows of 4 kB: held all at once the larger reading would take 60 MB and more."""
    shops.open_shop(database_url)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 15000) "
    moment, note = "datetime(1700000000 + i, 'unixepoch')", "printf('%04000d', i)"
    if database_url.startswith("postgresql"):
        moment, note = "to_timestamp(1700000000 + i)", "lpad(CAST(i AS TEXT), 4000, '0')"
    insert = f"{many} INSERT INTO sale SELECT 'u' || i, 'p1', {moment}, i, {note} FROM n"
    engine = connect(database_url)
    if engine.dialect.name == "mysql":
        moment = "FROM_UNIXTIME(1700000000 + seq)"
        insert = (
            f"INSERT INTO sale SELECT CONCAT('u', seq), 'p1', {moment}, seq, LPAD(seq, 4000, '0') FROM seq_1_to_15000"
        )
    with engine.begin() as connection:
        # as it stands: without parameters % means itself
        connection.execution_options(no_parameters=True).exec_driver_sql(insert)
    engine.dispose()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline.test_ingest_sql"])
    peaks = []
    for limit in (1_500, 15_000):
        ours, theirs = context.Pipe()
        store = f"sqlite:///{tmp_path / f'{limit}.db'}"
        child = context.Process(target=_peak, args=(limit, str(tmp_path), database_url, store, theirs), daemon=True)
        child.start()
        theirs.close()
        peaks.append(ours.recv())
        child.join()
        assert shops.asked(store, "SELECT COUNT(*) FROM events") == [(limit,)]
    assert peaks[1] - peaks[0] < 30_000, f"the rows were held in memory: {peaks} kB"


def _peak(limit: int, folder: str, shop: str, store: str, pipe: Connection) -> None:
    import resource

    query = EVENTS.replace("bill AS order_id", "bill AS note") + f" AND pieces <= {limit}"
    taken(Path(folder), shop, store, source__events_query=query, source__batch_rows=500)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def test_ids_and_values_of_every_type(postgres_url: str, tmp_path: Path, store: str) -> None:
    maker = "00000000-0000-0000-0000-0000000000aa"
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            'CREATE TABLE "or""ders" (id NUMERIC, product UUID, at TIMESTAMPTZ, day DATE, paid BOOLEAN, price NUMERIC)'
        )
        connection.exec_driver_sql(
            'INSERT INTO "or""ders" VALUES '
            f"(18446744073709551615, '{maker}', '2024-05-31 18:00:00+02', '2024-05-30', true, 12.50), "
            f"(9223372036854775808, '{maker}', '2024-05-31 18:00:00+02', '2024-05-30', false, 7), "
            f"(1, '{maker}', '2024-06-01 00:00:00+00', '2024-06-01', NULL, NULL), "
            f"(1.50, '{maker}', '2024-06-01 00:00:00+00', '2024-06-01', NULL, NULL)"
        )
    engine.dispose()
    taken(
        tmp_path,
        postgres_url,
        source__products_query="SELECT DISTINCT product AS product_id, true AS available, 12.50 AS price, "
        'DATE \'2024-01-02\' AS created_at, product AS maker FROM "or""ders"',
        source__events_query="SELECT id AS user_id, product AS product_id, at AS occurred_at, price AS value, "
        "convert_to('bill', 'UTF8') AS order_id FROM \"or\"\"ders\" WHERE at >= :since AND 'a::b :x' = 'a::b :x' "
        "AND '50%' LIKE '%0!%' ESCAPE '!' AND at::date IS NOT NULL",
        source__batch_rows=1,
    )
    found = held(store)["events"]
    assert {row[0] for row in found} == {"18446744073709551615", "9223372036854775808", "1", "1.5"}
    assert {row[4] for row in found} == {"bill"}
    assert sorted({row[1][:19] for row in found}) == ["2024-05-31 16:00:00", "2024-06-01 00:00:00"]
    product = shops.asked(store, "SELECT product_id, available, price, created_at, attributes FROM products")[0]
    assert tuple(product) == (
        maker,
        1,
        12.5,
        "2024-01-02 00:00:00.000000",
        json.dumps({"maker": maker}, separators=(",", ":")),
    )


def test_bytes_that_are_no_text_are_their_rows_trouble(tmp_path: Path, store: str) -> None:
    import sqlite3

    shop = tmp_path / "shop.db"
    shops.open_shop(f"sqlite:///{shop}")
    with sqlite3.connect(shop) as connection:
        broken = [b"a\x00b", b"\xed\xa0\x80", b"\xff", "é".encode(), b"7"]
        for value in broken:
            connection.execute("INSERT INTO article VALUES (CAST(? AS TEXT), 'x', ?)", (value, text(START)))
        connection.execute("INSERT INTO article VALUES (?, 'y', ?)", (8, text(START)))
        connection.execute("INSERT INTO article VALUES (9.0, 'z', ?)", (text(START),))
    result = taken(tmp_path, f"sqlite:///{shop}", source__events_query=None)
    assert result.counts["products"]["rejected_by"] == {"bad_row": 2, "nul_in_text": 1}
    _sums(result.counts)
    there = [row[0] for row in held(store)["products"]]
    assert [name for name in there if not name.startswith("p")] == ["7", "8", "9", "é"] or "9.0" in there
    assert "product_id holds bytes that are no UTF-8 text" in str(held(store)["rejected"])


def test_users_and_twins_across_batches(database_url: str, tmp_path: Path, store: str) -> None:
    shops.open_shop(database_url)
    add(
        database_url,
        "article",
        [("p1", "Product 1", text(START)), ("p2", "Other", text(START)), ("P1", "x", text(START))],
    )
    add(database_url, "sale", sales(30))
    result = taken(tmp_path, database_url, source__users_query=shops.USERS, source__batch_rows=2)
    assert result.counts["products"]["filtered_by"] == {"duplicate": 1}
    assert result.counts["products"]["rejected_by"] == {"conflicting_duplicate": 1}
    assert any("1 groups of ids differ only in case" in warning for warning in result.warnings)
    assert result.counts["users"]["used"] == 4
    _sums(result.counts)
    assert dict(held(store)["products"])["p2"] == "Product 2"


def test_pictures_go_with_products_of_a_database(shop: str, tmp_path: Path, store: str) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 80), (200, 0, 0)).save(tmp_path / "images" / "p3.png")
    with shops.open_project(tmp_path, shop) as project:
        result = ingest(project, IngestRequest.from_options((), sql=True, images=[tmp_path / "images"]))
    assert result.counts["images"]["used"] == 1
    assert shops.asked(store, "SELECT product_id FROM products WHERE image IS NOT NULL") == [("p3",)]
    assert result.counts["events"]["used"] == 75


def test_a_file_of_an_odd_name_that_may_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "odd #name.db"
    shops.open_shop(f"sqlite:///{path}")
    path.chmod(0o444)
    with SourceReader(f"sqlite:///{path}") as reader:
        (frame,) = reader.stream("SELECT sku FROM article", query_name="q", exact_columns={"sku"})
        assert frame.height == 5 and frame.schema == {"sku": pl.Binary}
        with pytest.raises(UsageError, match="a query that writes is refused"):
            list(reader.stream("DELETE FROM article RETURNING sku", query_name="q"))


FORMS = [
    ("n", "n >= EXTRACT(EPOCH FROM :since)", 1),
    ("d", "d >= :since", 1),
    ("t", "t >= :since AND n::text <> ':x' AND '%s' = '%s'", 1),
    ("n", "n >= :since", "operator does not exist: bigint >= timestamp"),
    ("t", "t >= :since OR t = 'infinity'", "timestamp too large"),
    ("t", "t >= :since AND 1 / (n - n) = 1", "division by zero"),
]


def test_since_in_the_forms_of_postgresql(postgres_url: str) -> None:
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE sold (n BIGINT, d DATE, t TIMESTAMP)")
        connection.exec_driver_sql(
            "INSERT INTO sold VALUES (1714600000, '2024-05-01', '2024-05-01 21:46:40'), "
            "(1714600001, '2024-05-02', '2024-05-01 21:46:41'), (5, '1970-01-01', 'infinity')"
        )
    engine.dispose()
    for column, condition, expected in FORMS:
        query = f"SELECT 'u' AS user_id, 'p' AS product_id, {column} AS occurred_at FROM sold WHERE {condition}"
        if condition.startswith("t >= :since AND n"):
            query += " AND t < 'infinity'"
        with SourceReader(postgres_url) as reader:
            frames = SourceQuery.parse("events", query).frames(reader, since=1_714_600_001)
            if isinstance(expected, int):
                assert sum(frame.height for frame in frames) == expected
            else:
                with pytest.raises(UsageError, match=f"events_query: the database refuses it: {expected}"):
                    list(frames)
