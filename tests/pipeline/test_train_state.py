"""The note of what was trained: it comes back, and one that cannot be read means that training is due."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recsys.config import load
from recsys.pipeline.project import Project
from recsys.pipeline.train_state import TrainingState, stale_parts

NOTE = TrainingState("e", "r", "m", "f", ("product_id", "title"), 10, 100)


def test_the_note_comes_back(tmp_path: Path) -> None:
    NOTE.save(tmp_path)
    assert TrainingState.load(tmp_path) == NOTE
    assert [path.name for path in tmp_path.iterdir()] == ["trained.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"encoder": "e"}'])
def test_a_note_that_cannot_be_read_counts_as_none_and_is_told(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("recsys"), "propagate", True)
    (tmp_path / "trained.json").write_text(text)
    assert TrainingState.load(tmp_path) is None
    assert "count as stale" in caplog.text


def test_without_a_model_both_parts_are_due(tmp_path: Path) -> None:
    project = Project(load(tmp_path, env={}))
    assert stale_parts(project) == {"encoder": "there is no trained model", "ranker": "the encoder is trained again"}


def test_settings_that_change_the_model_change_its_hash_and_others_do_not(tmp_path: Path) -> None:
    def hashes(**flags: object) -> tuple[str, str]:
        project = Project(
            load(tmp_path, env={}, flags={name.replace("__", "."): value for name, value in flags.items()})
        )
        return project.model_settings_hash(), project.recommendation_settings_hash()

    model, lists = hashes()
    assert hashes(encoder__dim=64) != (model, lists)
    assert hashes(training__seed=1)[0] != model
    assert hashes(recommend__k=3) == (model, hashes(recommend__k=3)[1]) and hashes(recommend__k=3)[1] != lists
    for harmless in ({"training__device": "cpu"}, {"training__checkpoint_minutes": 1}, {"publish__keep_runs": 9}):
        assert hashes(**harmless) == (model, lists)
    assert hashes(database__url="sqlite:///x.db", data__max_bad_fraction=1) == (model, lists)
