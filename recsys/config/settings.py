"""Every setting there is, one class a section; the description of a field is its line in `recsys.toml`.

In: values. Out: frozen, checked sections, and `Settings` with all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from recsys.config.evaluation import EvaluateSettings, ReportSettings
from recsys.config.recommend import PublishSettings, RecommendSettings, RuleSettings
from recsys.config.search import ClusterSettings, EmbeddingSettings, IndexSettings, SearchSettings
from recsys.config.section import Section
from recsys.config.training import EncoderSettings, ObjectiveSettings, RankerSettings, TrainingSettings


class DatabaseSettings(Section):
    """Where recommendations are written and products, users and events are kept."""

    url: SecretStr = Field(
        SecretStr("sqlite:///recsys.db"),
        description="SQLAlchemy URL; a relative SQLite path is relative to the project folder",
    )
    url_file: Path | None = Field(None, description="read the URL from this file instead (for mounted secrets)")


class SourceSettings(Section):
    """The shop's own database, read by `ingest --from-sql` and `run`."""

    url: SecretStr | None = Field(None, description="SQLAlchemy URL of the shop's database; read only")
    products_query: str | None = Field(None, description="SELECT giving the canonical product columns, or @file.sql")
    events_query: str | None = Field(None, description="SELECT giving the canonical event columns, or @file.sql")
    users_query: str | None = Field(None, description="SELECT giving the canonical user columns, or @file.sql")
    overlap_hours: float = Field(
        48, ge=0, description="hours before the newest row known from which a query with :since reads again"
    )
    batch_rows: int = Field(50_000, ge=1, description="rows read, judged and written at a time")


class DataSettings(Section):
    """How input rows are read and judged."""

    decimal: Literal[".", ","] = Field(".", description="decimal mark of numbers in text files")
    max_bad_fraction: float = Field(
        0.05, ge=0, le=1, description="share of rejected rows above which an ingest fails with exit code 3"
    )
    catalogue: Literal["auto", "bought_or_pictured", "all"] = Field(
        "auto",
        description="which products belong: all, only those with a purchase or a picture, or (auto) all but those "
        "without either whose availability nobody knows",
    )
    event_weights: dict[str, float] = Field(
        {"purchase": 1.0, "add_to_cart": 0.5, "view": 0.2, "wishlist": 0.4, "rating": 0.7, "return": 0.0},
        description="what an event of each type is worth as a sign of taste",
    )


class ImageSettings(Section):
    """Decoding of product pictures."""

    size: int = Field(64, ge=16, le=512, description="side in pixels of the decoded pictures")
    max_megapixels: float = Field(25, gt=0, description="larger pictures are refused before decoding")
    max_megabytes: float = Field(20, gt=0, description="larger files are refused before reading")
    max_aspect: float = Field(50, ge=1, description="pictures longer than this many times their width are refused")


class Settings(Section):
    """All sections. A room gets its own section, never all of them."""

    project: Path = Field(Path(), description="the project folder")
    database: DatabaseSettings = DatabaseSettings()
    source: SourceSettings = SourceSettings()
    data: DataSettings = DataSettings()
    images: ImageSettings = ImageSettings()
    encoder: EncoderSettings = EncoderSettings()
    objectives: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    ranker: RankerSettings = RankerSettings()
    recommend: RecommendSettings = RecommendSettings()
    rules: RuleSettings = RuleSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    cluster: ClusterSettings = ClusterSettings()
    publish: PublishSettings = PublishSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()

    @property
    def artifacts(self) -> Path:
        """Folder of models, embeddings, indexes and the picture cache."""
        return self.project / "artifacts"

    @property
    def database_url(self) -> str:
        """The store's URL in clear, a relative SQLite path made absolute from the project folder."""
        url = self.database.url.get_secret_value()
        head, mark, path = url.partition(":///")
        if not (mark and head.split("+")[0] == "sqlite") or path.startswith(("/", ":memory:", "file:")) or not path:
            return url
        return f"{head}:///{(self.project / path).absolute()}"
