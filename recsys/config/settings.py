"""All settings, one class per section; the description of a field is its comment in `recsys.toml`.

In: values. Out: frozen, validated sections, and `Settings` with all of them.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator

from recsys.config.evaluation import EvaluateSettings, ReportSettings
from recsys.config.privacy import PrivacySettings
from recsys.config.recommend import PublishSettings, RecommendSettings, RuleSettings
from recsys.config.search import ClusterSettings, EmbeddingSettings, IndexSettings, SearchSettings
from recsys.config.section import Section
from recsys.config.training import EncoderSettings, ObjectiveSettings, RankerSettings, TrainingSettings

DEFAULT_EVENT_WEIGHTS: Final = {
    "purchase": 1.0, "add_to_cart": 0.5, "view": 0.2, "wishlist": 0.4, "rating": 0.7, "return": 0.0, "share": 0.4,
    "comment": 0.3,
}  # fmt: skip


class DatabaseSettings(Section):
    """The store: database of recommendations, products, users and events."""

    url: SecretStr = Field(
        SecretStr("sqlite:///recsys.db"),
        description="SQLAlchemy URL; a relative SQLite path is relative to the project folder",
    )
    url_file: Path | None = Field(None, description="read the URL from this file instead (for mounted secrets)")


class SourceSettings(Section):
    """The shop's own database, read by `ingest --from-sql` and `run`."""

    url: SecretStr | None = Field(None, description="SQLAlchemy URL of the shop's database, which is only read")
    products_query: str | None = Field(
        None, description="SELECT that returns the canonical product columns, or @file.sql"
    )
    events_query: str | None = Field(None, description="SELECT that returns the canonical event columns, or @file.sql")
    users_query: str | None = Field(None, description="SELECT that returns the canonical user columns, or @file.sql")
    overlap_hours: float = Field(
        48, ge=0, description="hours before the newest stored row from which a query with :since reads again"
    )
    batch_rows: int = Field(50_000, ge=1, description="rows read, validated and written per batch")


class DataSettings(Section):
    """Reading and validation of input rows."""

    decimal: Literal[".", ","] = Field(".", description="decimal mark of numbers in text files")
    encoding: str = Field(
        "auto",
        description="encoding of text files, for example cp1252 or gbk; auto = UTF-8 or UTF-16, otherwise guessed",
    )
    timezone: str = Field("UTC", description="IANA time zone of times without one, for example Europe/Berlin")
    date_format: str | None = Field(
        None, description="strptime format of times that are not ISO 8601, for example %d/%m/%Y or %m/%d/%Y %H:%M"
    )
    max_bad_fraction: float = Field(
        0.05, ge=0, le=1, description="maximum share of rejected rows; above it an ingest fails with exit code 3"
    )
    catalogue: Literal["auto", "bought_or_pictured", "all"] = Field(
        "auto",
        description="products to include: all, bought_or_pictured = with a purchase or an image, auto = all except "
        "those with neither and with unknown availability",
    )
    event_types: dict[str, str] = Field(
        {},
        description='meaning of event types that are not known, for example { click = "view", remove_from_cart = '
        '"ignore" }; ignore = leave such events out',
    )
    event_weights: dict[str, float] = Field(
        DEFAULT_EVENT_WEIGHTS,
        description="weight of each event type as a signal of preference, 0 = none; types that are not named keep "
        "their default",
    )
    positive_rating: float | None = Field(
        None, description="rating from which on it is a sign of liking; without it, 0.6 of the largest rating"
    )

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        if value != "auto":
            try:
                codecs.lookup(value)
            except LookupError as error:
                raise ValueError(f"unknown encoding '{value}'; give auto, utf-8, utf-16, cp1252, gbk ...") from error
        return value

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone '{value}'; give an IANA name such as Europe/Berlin") from error
        return value

    @field_validator("date_format")
    @classmethod
    def _check_date_format(cls, value: str | None) -> str | None:
        if value is not None and not ("%" in value and any(part in value for part in ("%d", "%j", "%D", "%F"))):
            raise ValueError(f"'{value}' is no format of dates; write for example %d/%m/%Y")
        return value

    @field_validator("event_types")
    @classmethod
    def _check_event_types(cls, value: dict[str, str]) -> dict[str, str]:
        for name, meaning in value.items():
            if meaning not in (*DEFAULT_EVENT_WEIGHTS, "ignore"):
                raise ValueError(
                    f"'{name}' cannot mean '{meaning}'; there are {', '.join(DEFAULT_EVENT_WEIGHTS)} and ignore"
                )
        return value

    @field_validator("event_weights")
    @classmethod
    def _merge_event_weights(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if name not in DEFAULT_EVENT_WEIGHTS:
                raise ValueError(f"unknown event type '{name}'; there are {', '.join(DEFAULT_EVENT_WEIGHTS)}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of '{name}' is {weight:g}; it must be 0 or more")
        return {**DEFAULT_EVENT_WEIGHTS, **value}


class ImageSettings(Section):
    """Decoding of product images."""

    size: int = Field(64, ge=16, le=512, description="side length of decoded images in pixels")
    max_megapixels: float = Field(25, gt=0, description="images with more megapixels are rejected before decoding")
    max_megabytes: float = Field(20, gt=0, description="larger image files are rejected before reading")
    max_aspect: float = Field(50, ge=1, description="images with a larger ratio of long to short side are rejected")


class Settings(Section):
    """All sections. A package receives its own section, never all of them."""

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
    privacy: PrivacySettings = PrivacySettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()

    @property
    def artifacts(self) -> Path:
        """Folder of models, embeddings, indexes and the image cache."""
        return self.project / "artifacts"

    @property
    def database_url(self) -> str:
        """The store's URL with password; a relative SQLite path is made absolute from the project folder."""
        url = self.database.url.get_secret_value()
        driver, separator, path = url.partition(":///")
        if (
            not (separator and driver.split("+")[0] == "sqlite")
            or path.startswith(("/", ":memory:", "file:"))
            or not path
        ):
            return url
        return f"{driver}:///{(self.project / path).absolute()}"
