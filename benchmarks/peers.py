"""What others' libraries recommend: fits them on events and lists products for histories, in an environment of theirs.

In: a folder with train.npz (user, item, in order of time within a user; n_users, n_items) and test.npz (users,
histories padded with -1 in front, exclude_seen, k). Out: there one .npz a system with `lists` (b, k), -1 = none, and
facts.json. Imports nothing of ours, so it runs wherever RecTools and implicit are installed:

    PEERS_PYTHON benchmarks/peers.py FOLDER --systems rectools-sasrec,implicit-als --minutes 10
    PEERS_PYTHON benchmarks/peers.py FOLDER --rounds

With --rounds it trains SASRec pass by pass: a line of JSON on stdout after each, the next when "round" comes on stdin.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

Arrays = dict[str, np.ndarray]
KNN = 200
SASREC = {
    "n_blocks": 2,
    "n_heads": 1,
    "n_factors": 64,
    "session_max_len": 20,
    "dropout_rate": 0.2,
    "loss": "gBCE",
    "gbce_t": 0.75,
    "n_negatives": 32,
    "lr": 2e-3,
    "batch_size": 256,
}
"""The best of those tried on sequences of products within minutes on two cores."""


class LeftOutError(Exception):
    """The system cannot say anything about these users."""


class SASRec:
    """SASRec of RecTools, trained until the minutes are over or for so many passes."""

    def __init__(self, asked: argparse.Namespace, train: Arrays) -> None:
        from rectools.models import SASRecModel

        self.passes: list[float] = []
        self.asked, self.train = asked, train
        self.model = SASRecModel(
            **(SASREC | json.loads(asked.sasrec)), get_trainer_func=self._trainer, recommend_torch_device="cpu"
        )

    def _trainer(self) -> Any:
        from pytorch_lightning import Callback, Trainer

        passes, asked = self.passes, self.asked

        class Clock(Callback):
            """Notes how long each pass took, and says when it is enough."""

            def on_train_epoch_start(self, *_: Any) -> None:
                self.started = time.perf_counter()

            def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
                passes.append(time.perf_counter() - self.started)
                if asked.rounds:
                    print(json.dumps({"seconds": passes[-1], "steps": trainer.num_training_batches}), flush=True)
                    trainer.should_stop = sys.stdin.readline().strip() != "round"
                else:
                    trainer.should_stop = sum(passes) + passes[-1] > 60 * asked.minutes

            def __deepcopy__(self, _: Any) -> Clock:  # RecTools copies the trainer
                return self

        return Trainer(
            max_epochs=asked.epochs,
            min_epochs=1,
            callbacks=[Clock()],
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    def fit(self) -> None:
        from pytorch_lightning import seed_everything

        seed_everything(self.asked.seed, verbose=False)
        self.model.fit(_dataset(self.train["user"], self.train["item"]))

    def lists(self, test: Arrays) -> np.ndarray:
        items = test["histories"]
        row, column = np.nonzero(items >= 0)
        found = self.model.recommend(
            users=np.unique(row),
            dataset=_dataset(row, items[row, column]),
            k=int(test["k"]),
            filter_viewed=bool(test["exclude_seen"]),
            on_unsupported_targets="ignore",
        )
        out = np.full((len(items), int(test["k"])), -1, np.int64)
        out[found["user_id"].to_numpy(), found["rank"].to_numpy() - 1] = found["item_id"].to_numpy()
        return out

    def facts(self) -> dict[str, Any]:
        return {"passes": len(self.passes), **SASREC, **json.loads(self.asked.sasrec)}


class Implicit:
    """A model of implicit on who had what; histories are given as rows of that matrix."""

    def __init__(self, asked: argparse.Namespace, train: Arrays, *, name: str) -> None:
        from implicit.als import AlternatingLeastSquares
        from implicit.bpr import BayesianPersonalizedRanking
        from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

        made: dict[str, Callable[[], Any]] = {
            "implicit-als": lambda: AlternatingLeastSquares(
                factors=asked.factors, alpha=10.0, regularization=0.01, iterations=15, random_state=asked.seed
            ),
            "implicit-bpr": lambda: BayesianPersonalizedRanking(
                factors=128, learning_rate=0.1, iterations=300, random_state=asked.seed
            ),
            "implicit-itemknn": lambda: CosineRecommender(K=KNN),
            "implicit-bm25": lambda: BM25Recommender(K=KNN),
        }
        self.name, self.model, self.train = name, made[name](), train

    def fit(self) -> None:
        shape = int(self.train["n_users"]), int(self.train["n_items"])
        self.model.fit(_who_had_what(self.train["user"], self.train["item"], shape), show_progress=False)

    def lists(self, test: Arrays) -> np.ndarray:
        items, users, k = test["histories"], test["users"], int(test["k"])
        row, column = np.nonzero(items >= 0)
        # Nobody learns from a user without events, so there is nothing to recommend by either.
        asked = np.unique(row)
        known = bool(np.isin(users[asked], self.train["user"]).all())
        if self.name == "implicit-bpr" and not known:
            raise LeftOutError("BPR knows no users but those it was trained on")
        rows = _who_had_what(row, items[row, column], (len(items), int(self.train["n_items"])))[asked]
        how: dict[str, Any] = {}
        if self.name in ("implicit-als", "implicit-bpr"):
            how["filter_items"] = np.setdiff1d(np.arange(rows.shape[1]), self.train["item"])  # vectors of chance
        if self.name == "implicit-als" and not known:
            how["recalculate_user"] = True
        found, scores = self.model.recommend(
            users[asked] if known else np.arange(len(asked)),
            rows,
            N=k,
            filter_already_liked_items=bool(test["exclude_seen"]),
            **how,
        )
        # Fillers have the lowest number there is; of neighbours nothing or less is no neighbour.
        told = scores > (-1e30 if self.name in ("implicit-als", "implicit-bpr") else 0)
        out = np.full((len(items), k), -1, np.int64)
        out[asked, : found.shape[1]] = np.where(told, found, -1)
        return out

    def facts(self) -> dict[str, Any]:
        return {}


SYSTEMS: dict[str, Callable[[argparse.Namespace, Arrays], Any]] = {
    "rectools-sasrec": SASRec,
    **{
        name: lambda asked, train, name=name: Implicit(asked, train, name=name)
        for name in ("implicit-als", "implicit-bpr", "implicit-itemknn", "implicit-bm25")
    },
}


def _dataset(user: np.ndarray, item: np.ndarray) -> Any:
    import pandas as pd
    from rectools.dataset import Dataset

    when = pd.to_datetime(np.arange(len(user)), unit="s")  # within a user the order is what counts
    return Dataset.construct(pd.DataFrame({"user_id": user, "item_id": item, "weight": 1.0, "datetime": when}))


def _who_had_what(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    out = sparse.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)
    out.sum_duplicates()
    out.data[:] = 1.0
    return out


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as held:
        return dict(held)


def _versions() -> dict[str, str]:
    out = {"python": sys.version.split()[0]}
    for name in ("rectools", "implicit", "torch", "numpy"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names with commas between")
    parser.add_argument("--minutes", type=float, default=10, help="training of SASRec, ended between passes")
    parser.add_argument("--epochs", type=int, default=1000, help="passes of SASRec at most")
    parser.add_argument("--sasrec", default="{}", help="JSON: arguments of SASRecModel that differ")
    parser.add_argument("--factors", type=int, default=256, help="of ALS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", action="store_true", help="measure training, pass by pass")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    train = _read(asked.folder / "train.npz")
    if asked.rounds:
        SASRec(asked, train).fit()
        return 0
    test = _read(asked.folder / "test.npz")
    facts: dict[str, Any] = {"versions": _versions(), "systems": {}, "failed": {}}
    for name in asked.systems.split(","):
        try:
            started = time.perf_counter()
            system = SYSTEMS[name](asked, train)
            system.fit()
            fitted = time.perf_counter()
            np.savez(asked.folder / f"{name}.npz", lists=system.lists(test))
            spent = {"fit_s": fitted - started, "recommend_s": time.perf_counter() - fitted}
            facts["systems"][name] = {key: round(value, 2) for key, value in spent.items()} | system.facts()
        except Exception as error:  # whatever goes wrong in one, the others are still asked
            facts["failed"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
    (asked.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
