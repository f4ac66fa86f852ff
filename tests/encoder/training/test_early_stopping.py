import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data import schema
from recsys.data.interactions import Interactions
from recsys.encoder.batches.users import UserBatchLoader, UserTrainingBatch
from recsys.encoder.model import Model
from recsys.encoder.objectives.next_item import NextItemLoss
from recsys.encoder.training import early_stopping
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.training.early_stopping import METRIC, EarlyStopping, NdcgEvaluator, hold_out
from recsys.errors import InterruptedRunError
from tests.encoder import shops
from tests.encoder.training.test_train import interrupt, users_of


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few users judge."""
    monkeypatch.setattr(early_stopping, "_MIN_USERS", 1)
    monkeypatch.setattr(early_stopping, "_USER_SHARE", 0.5)


def log(*events: tuple[int, int, int, str]) -> Interactions:
    user, item, time = (np.array(column) for column in list(zip(*events, strict=True))[:3])
    kind = np.array([schema.EVENT_TYPES.index(one[3]) for one in events])
    weight = np.where(kind == schema.EVENT_TYPES.index("return"), 0.0, 1.0)
    return Interactions.from_events(
        user=user, item=item, time=time, event_type=kind, weight=weight, n_users=4, n_items=9
    )


def test_what_is_held_back_is_the_newest_purchase_that_is_new_to_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_stopping, "_MIN_USERS", 1)
    monkeypatch.setattr(early_stopping, "_USER_SHARE", 1.0)
    bought = [(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 1, 1), (1, 2, 2), (1, 1, 3), (2, 1, 1), (2, 2, 2), (3, 4, 1)]
    events = log(
        *((*one, "purchase") for one in bought), (3, 5, 2, "purchase"), (3, 6, 3, "purchase"), (3, 6, 4, "return")
    )
    held = hold_out(events, history_length=2, seed=0)
    assert held is not None
    # user 1 buys again, user 2 would have one event left, user 3 sent it back
    assert held.histories.users.tolist() == [0]
    assert held.targets.tolist() == [3]
    assert held.times.tolist() == [3]
    assert held.histories.items[0].tolist() == [1, 2]
    left = set(zip(held.train.user.tolist(), held.train.item.tolist(), strict=True))
    assert (0, 3) not in left
    assert (1, 1) in left
    assert len(held.train) == len(events) - 1


def test_too_few_users_judge_nothing() -> None:
    assert hold_out(shops.interactions(), history_length=5, seed=0) is None


def test_users_are_judged_as_a_slow_ranking_does(both: Model, products: Model, few: None) -> None:
    content = products.encode(shops.catalogue(), np.arange(48))
    held = hold_out(shops.interactions(), history_length=shops.ENCODER.history, seed=0)
    assert held is not None
    assert len(held.targets) >= 5
    user = both.user_encoder
    assert user is not None
    objective = NextItemLoss(
        torch.from_numpy(content), user.residual_rows(shops.catalogue().ids), id_dropout=0.3, negatives=0
    )
    found = NdcgEvaluator(held, objective)(user)
    items = both.item_vectors(content, shops.catalogue().ids)
    gained = []
    known = set(user.ids.texts)
    for row, target in enumerate(held.targets.tolist()):
        one = held.histories.items[row : row + 1]
        alone = type(held.histories)(
            held.histories.users[row : row + 1],
            one,
            held.histories.times[row : row + 1],
            held.histories.event_types[row : row + 1],
        )
        score = (both.user_vectors(alone, items, now=int(held.times[row])) @ items.T)[0]
        rivals = [
            at
            for at, name in enumerate(shops.catalogue().ids.texts)
            if name in known and at not in one[0].tolist() and at != target
        ]
        place = int((score[rivals] >= score[target]).sum())
        gained.append(1 / np.log2(place + 2) if place < 10 else 0.0)
    assert found == pytest.approx(np.mean(gained), abs=1e-6)
    assert 0 < found < 1


def test_training_slows_down_then_ends_when_it_gains_no_more_and_gives_the_best_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    values = [0.1, 0.3, 0.2, 0.3, 0.2, 0.4, 0.1, 0.1, 0.2, 0.3]
    said = iter(values)
    patience = EarlyStopping(
        lambda _: next(said),
        interval=5,
        patience=2,
        best_checkpoint=TrainingCheckpoint(tmp_path / "best.safetensors", {}),
    )
    patience.load_scores([])
    assert patience.restore_best(model) is None
    seen = []
    for step in range(1, 51):
        with torch.no_grad():
            model.weight.fill_(step)
        if (found := patience.step(model, step)) is not None:
            seen.append((found, patience.learning_rate_factor, patience.should_stop))
    rates = [1, 1, 1, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 16, 1 / 16, 1 / 16]
    assert seen == [(*both, at == 9) for at, both in enumerate(zip(values, rates, strict=True))]
    assert patience.restore_best(model) == 0.4
    assert model.weight.item() == 30
    again = EarlyStopping(lambda _: 0.5, interval=5, patience=2, best_checkpoint=patience.best_checkpoint)
    again.load_scores(patience.scores[:4])
    assert again.learning_rate_factor == 1 / 4
    patience.load_scores([])
    assert patience.restore_best(model) is None


def test_users_with_patience_stopped_and_resumed_are_the_same(
    products: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None
) -> None:
    monkeypatch.setattr(shops, "TRAINING", shops.TRAINING.model_copy(update={"user_epochs": 12, "patience": 2}))
    whole = users_of(products, tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    judged = [(row["step"], row[METRIC]) for row in rows if METRIC in row]
    assert judged
    assert whole.metrics[METRIC] == pytest.approx(max(value for _, value in judged), rel=1e-5)
    with monkeypatch.context() as patch:
        interrupt(patch, UserTrainingBatch, judged[0][0] + 1, signal.SIGTERM)
        with pytest.raises(InterruptedRunError):
            users_of(products, tmp_path / "half")
    assert users_of(products, tmp_path / "half", resume=True).serialize_weights() == whole.serialize_weights()
    # finished: nothing is done again, and the best comes back
    with monkeypatch.context() as patch:
        patch.setattr(UserBatchLoader, "get_batch", lambda *_: pytest.fail("a step was done again"))
        assert users_of(products, tmp_path / "half", resume=True).serialize_weights() == whole.serialize_weights()
    # the last purchases held back are not trained on, so that another training it is
    monkeypatch.setattr(shops, "TRAINING", shops.TRAINING.model_copy(update={"patience": 0}))
    assert users_of(products, tmp_path / "none").serialize_weights() != whole.serialize_weights()
