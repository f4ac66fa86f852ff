"""Training from a model, with labels, with a teacher, by the command line: what is written, refused, taken up again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from recsys.artifacts.model_folder import current_version
from recsys.config import load
from recsys.encoder import serialization as checkpoint
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.pipeline.project import Project
from recsys.pipeline.train_state import TrainingState, stale_parts
from tests.e2e.projects import PRODUCTS, Run, rows

pytestmark = pytest.mark.e2e


def current(project: Path) -> str:
    return (project / "artifacts/models/encoder/CURRENT").read_text().strip()


def stale(project: Path) -> dict[str, str]:
    with Project(load(project), writes=False) as bench:
        return stale_parts(bench)


@pytest.fixture
def labels(copied: Path) -> Path:
    """Kind and price class of every third product, and two rows that cannot be used."""
    products = rows(copied, "SELECT product_id, category, price FROM products ORDER BY product_id")[::3]
    lines = [f"{name},{kind},{'dear' if price > 30 else 'cheap'}" for name, kind, price in products]
    path = copied / "labels.csv"
    path.write_text("\n".join(["product_id,kind,class", *lines, "nobody,x,y", f"{products[0][0]},x,y"]) + "\n")
    return path


def test_labels_give_a_new_model_guesses_and_rejects(copied: Path, labels: Path, recsys: Run) -> None:
    (copied / "recsys.toml").write_text((copied / "recsys.toml").read_text() + "[data]\nmax_bad_fraction = 0.2\n")
    assert recsys("run", "-C", copied, "-q").code == 0
    before = current(copied)
    made = recsys("train", "--labels", labels, "--epochs", 1, "-C", copied, "--json")
    assert made.code == 0, made.err
    document, version = made.document, current(copied)
    assert version != before and document["artifacts"]["encoder"].endswith(version)
    known = len(labels.read_text().splitlines()) - 3
    assert document["counts"]["labels"] == {
        "rows_in": known + 2, "used": known, "rejected": 2,
        "rejected_by": {"repeated_label": 1, "unknown_product": 1},
    }  # fmt: skip
    assert any("unknown_product" in warning for warning in document["warnings"])
    stored = rows(
        copied, "SELECT table_name, row_no, code FROM rejected_rows WHERE source LIKE '%labels.csv' ORDER BY 2"
    )
    assert stored == [("labels", known + 2, "unknown_product"), ("labels", known + 3, "repeated_label")]
    taken = document["rows"]
    assert {(row["part"], row["unit"]) for row in taken} >= {("words", "words"), ("image", "weights")}
    assert all(row["taken"] == row["of"] for row in taken if row["part"] != "image")  # its first guess is fitted anew
    learnt = {row["label"]: row for row in document["tables"]["labels"]}
    assert learnt["class"]["values"] == 2 and learnt["kind"]["guessed"] == PRODUCTS - known
    guesses = rows(copied, "SELECT product_id, attribute, confidence, model_version FROM predicted_attributes")
    assert len(guesses) == 2 * (PRODUCTS - known) and len({model for *_, model in guesses}) == 1
    assert {attribute for _, attribute, *_ in guesses} == {"class", "kind"}
    assert all(0 <= confidence <= 1 for _, _, confidence, _ in guesses)
    labelled = {line.split(",")[0] for line in labels.read_text().splitlines()}
    assert not {product for product, *_ in guesses} & labelled
    assert stale(copied) == {}
    again = recsys("run", "-C", copied, "--json")
    assert again.code == 0 and again.document["counts"]["trained"] == "nothing" and current(copied) == version
    assert recsys("train", "ranker", "-C", copied).code == 0
    noted = TrainingState.load(copied / "artifacts/models")
    assert noted is not None and noted.said == "--labels labels.csv" and noted.way
    plain = recsys("train", "encoder", "-C", copied, "--json")
    assert any("trained with --labels labels.csv" in warning for warning in plain.document["warnings"])


def test_another_shops_model_is_where_training_starts(copied: Path, trained: Path, recsys: Run) -> None:
    models = trained / "artifacts/models/encoder"
    (copied / "artifacts/models/encoder/CURRENT").unlink()
    for folder in (models, models / current(trained)):
        made = recsys("train", "--from", folder, "--epochs", 2, "-C", copied, "--json")
        assert made.code == 0, made.err
        assert {row["unit"] for row in made.document["rows"]} == {"weights", "words", "values"}
    assert current(copied) != current(trained)
    assert stale(copied) == {}


def test_a_smaller_student_takes_the_teachers_place(copied: Path, recsys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ENCODER__DIM", "8")
    refused = recsys("train", "--from", "current", "-C", copied)
    assert refused.code == 1 and "dim is 16 there and 8 here" in refused.err
    made = recsys("train", "--distill", "current", "-C", copied, "--json")
    assert made.code == 0, made.err
    sizes = {row["encoder"]: row for row in made.document["rows"]}
    assert (sizes["teacher"]["dim"], sizes["student"]["dim"]) == (16, 8)
    assert sizes["student"]["weights"] < sizes["teacher"]["weights"]
    model = checkpoint.load(current_version(copied / "artifacts/models", "encoder"))
    assert model.dim == 8 and "teacher" in model.metrics
    assert stale(copied) == {}


def test_labels_without_a_model_train_from_the_beginning(copied: Path, labels: Path, recsys: Run) -> None:
    (copied / "artifacts/models/encoder/CURRENT").unlink()
    labels.write_text("\n".join(labels.read_text().splitlines()[:-2]))
    made = recsys("train", "encoder", "--labels", labels, "-C", copied)
    assert made.code == 0 and "from the beginning" in made.err + made.out, made.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--distill", "current", "--from", "current"), 2, "no --from"),
        (("--distill", "current", "--labels", "x.csv"), 2, "two trainings"),
        (("ranker", "--from", "current"), 2, "--from current trains the encoder"),
        (("ranker", "--labels", "x.csv"), 2, "--labels x.csv trains the encoder"),
        (("--labels", "none.csv"), 2, "no such file"),
        (("--from", "nowhere"), 2, "no such model folder: nowhere"),
        (("--distill", "nowhere"), 2, "no such model folder"),
        (("--from", "."), 1, "not a complete model folder"),
        (("--from", "current", "--resume"), 2, "these settings with --from current to go on"),
        (("encoder", "--distill", "current", "--epochs", "0"), 2, "epochs"),
    ],
)
def test_what_makes_no_sense_is_refused(
    copied: Path, recsys: Run, options: tuple[str, ...], code: int, said: str
) -> None:
    before = current(copied)
    refused = recsys("train", *options, "-C", copied)
    assert (refused.code, said in refused.err) == (code, True), refused.err
    assert current(copied) == before and stale(copied) == {}


def test_what_has_no_weight_is_refused(
    copied: Path, labels: Path, recsys: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, options in (("labels", ("--labels", labels)), ("teacher", ("--distill", "current"))):
        monkeypatch.setenv(f"RECSYS_OBJECTIVES__{name.upper()}", "0")
        refused = recsys("train", *options, "-C", copied)
        assert refused.code == 2 and f"[objectives] {name} = 0" in refused.err


def test_a_stopped_training_with_labels_goes_on(
    copied: Path, labels: Path, recsys: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.write_text("\n".join(labels.read_text().splitlines()[:-2]))
    asked = ("train", "--labels", labels, "-C", copied)
    at = ProductBatchLoader.get_batch

    def stopping(self: ProductBatchLoader, step: int) -> object:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return at(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ProductBatchLoader, "get_batch", stopping)
        assert recsys(*asked).code == 143
    plain = recsys("train", "--resume", "-C", copied)
    assert plain.code == 2 and "no stopped training" in plain.err
    other = recsys("train", "--from", "current", "--resume", "-C", copied)
    assert other.code == 2 and "with --from current" in other.err
    resumed = recsys(*asked, "--resume")
    assert resumed.code == 0, resumed.err
    assert rows(copied, "SELECT count(*) FROM predicted_attributes") != [(0,)]
    assert stale(copied) == {}
    # stopped between encoder and ranker: the ranker alone is left, though the encoder in use is another by now
    known = TrainingState.load(copied / "artifacts/models")
    assert known is not None
    TrainingState(**{**vars(known), "ranker": ""}).save(copied / "artifacts/models")
    version = current(copied)
    assert recsys(*asked, "--resume").code == 0
    assert current(copied) == version and stale(copied) == {}
