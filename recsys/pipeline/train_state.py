"""Records the data and settings the models in use were trained on, and decides whether they are stale.

In: the state file beside the model folders, current data and settings. Out: reasons to train, by part.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.artifacts.atomic import write_durable
from recsys.data.dataset import Dataset
from recsys.errors import ModelFolderError
from recsys.execution.failpoints import failpoint
from recsys.pipeline.project import Project

logger = logging.getLogger(__name__)

_STATE_FILE = "trained.json"

RETRAIN_GROWTH = 0.2
"""Growth of events or products since the training, as a share, above which the models are stale."""


@dataclass(frozen=True)
class TrainingState:
    """Data and settings that the models in use were trained on.

    Attributes:
        encoder: version of the encoder.
        ranker: version of the ranker, empty before it is fitted.
        model_hash: hash of the settings.
        fingerprint: of the data.
        columns: the catalogue's columns.
        products: number of products.
        events: number of events.
        way: fingerprint of the training recipe, empty for the default.
        said: the options of the recipe, for people.
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
        project: Project, dataset: Dataset, *, encoder: str, ranker: str, recipe: str = "", description: str = ""
    ) -> TrainingState:
        """Record a training on this data with the current settings.

        Args:
            project: provides the settings.
            dataset: training data.
            encoder: version of the encoder.
            ranker: version of the ranker, or empty.
            recipe: fingerprint of the training recipe, empty for the default.
            description: the options of the recipe, for people.
        """
        return TrainingState(
            encoder=encoder,
            ranker=ranker,
            model_hash=project.model_settings_hash(),
            fingerprint=dataset.fingerprint,
            columns=tuple(sorted(dataset.catalogue.frame.columns)),
            products=len(dataset.catalogue),
            events=len(dataset.interactions),
            way=recipe,
            said=description,
        )

    def save(self, models: Path) -> None:
        """Write the state atomically."""
        path = models / _STATE_FILE
        draft = path.with_suffix(".tmp")
        write_durable(draft, json.dumps(asdict(self), indent=1).encode())
        failpoint("trained.rename.before")
        draft.replace(path)
        failpoint("trained.rename.after")

    @staticmethod
    def load(models: Path) -> TrainingState | None:
        """Read the state; None if nothing was trained or the file cannot be read (then training is due)."""
        path = models / _STATE_FILE
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return TrainingState(**{**document, "columns": tuple(document["columns"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read (%s), so the models count as stale", path, error)
            return None


def stale_parts(project: Project) -> dict[str, str]:
    """Return the parts that must be trained, with the reason: "encoder" and "ranker", "ranker" alone, or none.

    A part is stale if there is no model, a model folder is damaged, a setting that the model depends on has changed,
    a column was added to or removed from the catalogue, or events or products have grown by a fifth.
    """
    state = TrainingState.load(project.models_folder)
    if state is None:
        return _stale_encoder("there is no trained model")
    try:
        version = project.model.version
    except ModelFolderError as error:
        return _stale_encoder(str(error))
    if version != state.encoder:
        return _stale_encoder(f"the encoder in use is {version}, not the noted {state.encoder}")
    if state.model_hash != project.model_settings_hash():
        return _stale_encoder("a setting of the models has changed")
    dataset = project.dataset
    if set(state.columns) != set(dataset.catalogue.frame.columns):
        changed = sorted(set(state.columns) ^ set(dataset.catalogue.frame.columns))
        return _stale_encoder(f"the catalogue's columns have changed ({', '.join(changed[:5])})")
    for name, before, now in (
        ("events", state.events, len(dataset.interactions)),
        ("products", state.products, len(dataset.catalogue)),
    ):
        if now > before * (1 + RETRAIN_GROWTH):
            return _stale_encoder(f"{name} have grown from {before:,} to {now:,}")
    if not state.ranker:
        return {"ranker": "there is no fitted ranker"}
    try:
        if project.ranker.sources != tuple(project.settings.recommend.sources):
            return {"ranker": f"it was fitted for the sources {', '.join(project.ranker.sources)}"}
    except ModelFolderError as error:
        return {"ranker": str(error)}
    return {}


def _stale_encoder(reason: str) -> dict[str, str]:
    return {"encoder": reason, "ranker": "the encoder is trained again"}
