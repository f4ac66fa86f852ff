"""Bad input: each kind ends with its exit code, one clear line, one JSON document, and nothing half written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.projects import Run, new_project, rows

pytestmark = pytest.mark.e2e

PRODUCTS = "product_id,title,price,image\np1,red shoe,10.5,p1.jpg\np2,blue hat,7,p2.jpg\n"
EVENTS = "user_id,product_id,event_type,occurred_at\nu1,p1,purchase,2025-01-02\n"


@dataclass(frozen=True)
class Case:
    """Files, the command on them, and what must come of it."""

    name: str
    files: dict[str, str | bytes]
    command: Callable[[Path], list[object]]
    code: int
    said: tuple[str, ...]


def ingest(*names: str, **options: str) -> Callable[[Path], list[object]]:
    def command(folder: Path) -> list[object]:
        more = [text for name, value in options.items() for text in (f"--{name}", value)]
        return ["ingest", *(folder / name for name in names), *more]

    return command


JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")

REFUSED = [
    Case("missing file", {}, ingest("gone.csv"), 2, ("no such file", "gone.csv")),
    Case("wrong preset", {"products.csv": PRODUCTS}, ingest("products.csv", preset="hm"), 2, ("article_id", "csv")),
    Case("unknown preset", {"products.csv": PRODUCTS}, ingest("products.csv", preset="hmm"), 2, ("did you mean 'hm'",)),
    Case("empty catalogue", {"products.csv": "product_id,title\n"}, ingest("products.csv"), 3, ("catalogue is empty",)),
    Case("empty file", {"products.csv": ""}, ingest("products.csv"), 2, ("products.csv",)),
    Case("no events", {"events.csv": EVENTS.splitlines()[0] + "\n"}, ingest("events.csv"), 3,
         ("no events", "events.csv")),
    Case("too many bad rows", {"products.csv": PRODUCTS, "events.csv": EVENTS.replace("2025-01-02", "soon")},
         ingest("products.csv", "events.csv"), 3, ("events row 2", "'soon' is no time", "occurred_at")),
    Case("unknown product in every event", {"products.csv": PRODUCTS, "events.csv": EVENTS.replace("p1", "p9")},
         ingest("products.csv", "events.csv"), 3, ("unknown_product", "p9")),
    Case("images that are no folder", {"products.csv": PRODUCTS},
         lambda folder: ["ingest", folder / "products.csv", "--images", folder / "gone"],
         2, ("no such file or folder", "gone")),
    Case("map without a column", {"products.csv": PRODUCTS}, ingest("products.csv", map="title"),
         2, ("canonical=theirs",)),
    Case("map of an unknown name", {"products.csv": PRODUCTS}, ingest("products.csv", map="titel=title"),
         2, ("did you mean 'title'",)),
    Case("nothing to ingest", {}, lambda _: ["ingest"], 2, ("nothing to ingest",)),
    Case("no models", {}, lambda _: ["recommend"], 1, ("recsys train",)),
    Case("no data to train on", {}, lambda _: ["train"], 3, ("catalogue is empty",)),
    Case("no data to run on", {}, lambda _: ["run"], 3, ("catalogue is empty",)),
    Case("nothing to roll back", {}, lambda _: ["rollback"], 2, ("nothing is published",)),
    Case("nothing to publish", {}, lambda _: ["publish"], 2, ("no finished run",)),
    Case("unknown run", {}, lambda _: ["runs", "show", "2020"], 2, ("no run '2020'",)),
    Case("nothing to look for", {}, lambda _: ["similar"], 2, ("name a product, a text or an image",)),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name.replace(" ", "-"))
def test_refused(case: Case, tmp_path: Path, recsys: Run) -> None:
    project = new_project(tmp_path / "project")
    files = tmp_path / "files"
    files.mkdir()
    for name, content in case.files.items():
        (files / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    outcome = recsys(*case.command(files), "-C", project, "--json")
    assert outcome.code == case.code, outcome.err
    document = outcome.document
    assert document["status"] == "error" and document["exit_code"] == case.code
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in outcome.err
    for words in case.said:
        assert words in errors[0]
        assert words in document["error"]
    assert rows(project, "SELECT COUNT(*) FROM products") == rows(project, "SELECT COUNT(*) FROM events") == [(0,)]


def lenient(folder: Path) -> Path:
    return new_project(folder, settings="[data]\nmax_bad_fraction = 0.9\n")


def test_single_bad_rows_are_counted_and_kept_with_their_reason(tmp_path: Path, recsys: Run) -> None:
    project = lenient(tmp_path / "project")
    (tmp_path / "products.csv").write_text(
        'product_id,title,price\np1,red shoe,10.5\np2,blue hat,"12,50"\np3,green sock\n'
        "p4,one,1\np4,other,2\n,none,1\n007,bond,7\n"
    )
    (tmp_path / "events.csv").write_text(
        "user_id,product_id,event_type,occurred_at\nu1,p1,purchase,2025-01-02\nu1,nope,purchase,2025-01-02\n"
        "u1,p1,purchase,soon\nu1,p1,purchase,2999-01-01\nu1,007,purchase,2025-01-03\n"
    )
    outcome = recsys("ingest", tmp_path / "products.csv", tmp_path / "events.csv", "-C", project, "--json")
    assert outcome.code == 0, outcome.err
    counts = outcome.document["counts"]
    for table in ("products", "events"):
        held = counts[table]
        assert held["rows_in"] == held["used"] + held["rejected"] + held["filtered"]
    assert counts["products"]["rows_in"] == 7
    codes = dict(rows(project, "SELECT code, COUNT(*) FROM rejected_rows GROUP BY code"))
    assert {
        "bad_row",
        "conflicting_duplicate",
        "missing_id",
        "unknown_product",
        "bad_time",
        "future_time",
    } <= set(codes)
    assert sum(codes.values()) == counts["products"]["rejected"] + counts["events"]["rejected"]
    assert ("007",) in rows(project, "SELECT product_id FROM products")
    assert counts["products"]["bad_cells"] == 1
    assert any("12,50" in warning and "decimal" in warning for warning in outcome.document["warnings"])
    again = recsys("ingest", tmp_path / "products.csv", tmp_path / "events.csv", "-C", project, "--json")
    assert again.code == 0
    assert dict(rows(project, "SELECT code, COUNT(*) FROM rejected_rows GROUP BY code")) == codes
    shown = recsys("check", "-C", project)
    assert shown.code == 0 and "unknown_product" in shown.out


def test_bad_pictures_leave_their_products_in(tmp_path: Path, drawn: Path, recsys: Run) -> None:
    project = lenient(tmp_path / "project")
    images = tmp_path / "images"
    images.mkdir()
    good = next((drawn / "images").glob("*.jpg")).read_bytes()
    (images / "p1.jpg").write_bytes(good[: len(good) // 2])
    (images / "p2.jpg").write_text("I am a text")
    (images / "p3.jpg").write_bytes(good)
    (tmp_path / "products.csv").write_text(PRODUCTS + "p3,green sock,3,p3.jpg\np4,grey sock,3,p4.jpg\n")
    outcome = recsys("ingest", tmp_path / "products.csv", "--images", images, "-C", project, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["counts"]["products"]["used"] == 4
    assert outcome.document["counts"]["images"]["used"] == 1
    found = dict(rows(project, "SELECT value_excerpt, code FROM rejected_rows WHERE table_name = 'images'"))
    codes = sorted(found.values())
    assert codes == ["image_missing", "image_not_a_picture", "image_truncated"]
    assert any("3 cannot be used" in warning for warning in outcome.document["warnings"])


def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, recsys: Run) -> None:
    project = new_project(tmp_path / "project", settings="[recommend]\n\nshard_user = 3\n")
    for command in (["check"], ["run"], ["config", "show"]):
        outcome = recsys(*command, "-C", project, "--json")
        assert outcome.code == 2
        assert outcome.document["error"] == (
            "recsys.toml line 3: unknown setting 'recommend.shard_user'; did you mean 'recommend.shard_users'?"
        )


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/shop", 75, "does not answer"),
        ("sqlite:////nowhere/at/all/shop.db", 2, "/nowhere/at/all"),
        ("mysqlite:///shop.db", 2, "did you mean 'sqlite'"),
        ("not a url", 2, "cannot be read"),
    ],
)
def test_an_unreachable_database(tmp_path: Path, recsys: Run, url: str, code: int, said: str) -> None:
    for command in (["check"], ["recommend"], ["init", tmp_path / "project"]):
        outcome = recsys(*command, "-C", tmp_path, "--database", url, "--json")
        assert outcome.code == code, outcome.err
        assert said in outcome.document["error"]
        assert "hunter2" not in outcome.out + outcome.err
    doctor = recsys("doctor", "-C", tmp_path, "--database", url, "--json")
    assert "hunter2" not in doctor.out + doctor.err


def test_a_table_that_is_not_there_leads_to_init(tmp_path: Path, recsys: Run) -> None:
    outcome = recsys("check", "-C", tmp_path, "--database", f"sqlite:///{tmp_path}/new.db", "--json")
    assert outcome.code == 2
    assert "recsys init" in outcome.document["error"]


def test_a_damaged_model_folder_is_refused(copied: Path, recsys: Run) -> None:
    weights = next((copied / "artifacts/models/encoder").glob("*/model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    outcome = recsys("recommend", "-C", copied, "--json")
    assert outcome.code == 1
    assert "altered" in outcome.document["error"]
    plan = recsys("run", "--dry-run", "-C", copied, "--json").document["rows"]
    assert next(row for row in plan if row["step"] == "train encoder")["done"] == "yes"


def test_a_lost_model_folder_is_named(copied: Path, recsys: Run) -> None:
    shutil.rmtree(copied / "artifacts/models")
    outcome = recsys("embed", "-C", copied, "--json")
    assert outcome.code == 1
    assert "recsys train" in outcome.document["error"]
