"""What the models in use were trained on, and whether that is too long ago.

In: the note beside the model folders, today's data and settings. Out: reasons to train, none when there are none.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.artifacts import atomic as durable
from recsys.data.dataset import Dataset
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint
from recsys.pipeline.project import Project

logger = logging.getLogger(__name__)

_NOTE = "trained.json"

RETRAIN_GROWTH = 0.2
"""Share by which events or products must have grown since the training for it to be due again."""


@dataclass(frozen=True)
class TrainingState:
    """On what the models in use were trained.

    Attributes:
        encoder: version of the encoder.
        ranker: version of the ranker, empty before it is fitted.
        model_hash: names the settings.
        fingerprint: names the data.
        columns: the catalogue's columns.
        products: n.
        events: e.
        way: key of the way the encoder was trained in, empty for the ordinary one.
        said: that way for people.
    """

    encoder: str
    ranker: str
    model_hash: str
    fingerprint: str
    columns: tuple[str, ...]
    products: int
    events: int
    way: str = ""
    said: str = ""

    @staticmethod
    def capture(
        project: Project, dataset: Dataset, *, encoder: str, ranker: str, way: str = "", said: str = ""
    ) -> TrainingState:
        """The note for a training on this data with these settings."""
        return TrainingState(
            encoder=encoder,
            ranker=ranker,
            model_hash=project.model_settings_hash(),
            fingerprint=dataset.fingerprint,
            columns=tuple(sorted(dataset.catalogue.frame.columns)),
            products=len(dataset.catalogue),
            events=len(dataset.interactions),
            way=way,
            said=said,
        )

    def save(self, models: Path) -> None:
        """Write the note, whole or not at all."""
        path = models / _NOTE
        draft = path.with_suffix(".tmp")
        durable.write_durable(draft, json.dumps(asdict(self), indent=1).encode())
        failpoint("trained.rename.before")
        draft.replace(path)
        failpoint("trained.rename.after")

    @staticmethod
    def load(models: Path) -> TrainingState | None:
        """Read the note; None when nothing was trained or it cannot be read (then training is due)."""
        path = models / _NOTE
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return TrainingState(**{**facts, "columns": tuple(facts["columns"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read (%s), so the models count as stale", path, error)
            return None


def stale_parts(project: Project) -> dict[str, str]:
    """Which parts must be trained, and why: "encoder" (which takes "ranker" along), "ranker", or nothing.

    Training is due when there is no model, a model folder is damaged, a setting that a model depends on has changed,
    the catalogue has got or lost a column, or events or products have grown by a fifth since.
    """
    known = TrainingState.load(project.models_folder)
    if known is None:
        return _both("there is no trained model")
    try:
        loaded = project.model.version
    except ModelFolderError as error:
        return _both(str(error))
    if loaded != known.encoder:
        return _both(f"the encoder in use is {loaded}, not the noted {known.encoder}")
    if known.model_hash != project.model_settings_hash():
        return _both("a setting of the models has changed")
    dataset = project.dataset
    if set(known.columns) != set(dataset.catalogue.frame.columns):
        changed = sorted(set(known.columns) ^ set(dataset.catalogue.frame.columns))
        return _both(f"the catalogue's columns have changed ({', '.join(changed[:5])})")
    for what, then, now in (
        ("events", known.events, len(dataset.interactions)),
        ("products", known.products, len(dataset.catalogue)),
    ):
        if now > then * (1 + RETRAIN_GROWTH):
            return _both(f"{what} have grown from {then:,} to {now:,}")
    if not known.ranker:
        return {"ranker": "there is no fitted ranker"}
    try:
        if project.ranker.sources != tuple(project.settings.recommend.sources):
            return {"ranker": f"it was fitted for the sources {', '.join(project.ranker.sources)}"}
    except ModelFolderError as error:
        return {"ranker": str(error)}
    return {}


def _both(reason: str) -> dict[str, str]:
    return {"encoder": reason, "ranker": "the encoder is trained anew"}
