"""Every setting there is, one class a section; the description of a field is its line in `recsys.toml`.

In: values. Out: frozen, checked sections, and `Settings` with all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from recsys.config.evaluation import EvaluateSettings, ReportSettings
from recsys.config.search import SearchSettings
from recsys.config.section import Section
from recsys.config.training import EncoderSettings, ObjectiveSettings, RankerSettings, TrainingSettings

SOURCES = ("sequence", "repurchase", "co_purchase", "transitions", "ease", "popular", "content", "cluster", "fresh")
"""The candidate sources there are, by the names `recommend.sources` may list."""


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


class RecommendSettings(Section):
    """The nightly lists."""

    k: int = Field(12, ge=1, description="recommendations per user")
    placement: str = Field(
        "default", min_length=1, max_length=64, description="name under which the shop reads this list"
    )
    sources: list[str] = Field(list(SOURCES), description="candidate sources to use")
    candidates: int = Field(100, ge=1, description="candidates a source proposes per user")
    popular_days: float = Field(7, gt=0, description="days that count for 'popular'")
    fresh_days: float = Field(14, gt=0, description="days a product is new, for 'fresh'")
    ease_products: int = Field(
        12_000, ge=2, description="most bought products that take part in 'ease'; memory grows with the square"
    )
    approximate: bool = Field(
        False, description="let 'sequence' and 'content' look at a part of the products only; for millions of products"
    )
    recall: float = Field(
        0.99, gt=0, le=1, description="share of the true candidates that approximate search must find, on a sample"
    )
    shard_users: int = Field(2000, ge=1, description="users written in one transaction")
    engine: Literal["local", "processes", "ray"] = Field(
        "local", description="where lists are made: in this process, in several, or by Ray (extra recsys[ray])"
    )
    workers: int = Field(0, ge=0, description="how many processes or Ray actors; 0 = one a processor core")
    incremental: bool = Field(
        False,
        description="make only the lists that new events or sold-out products change and take the others over; what "
        "was learned stays that of the last full run",
    )
    full_days: float = Field(7, gt=0, description="days after which an incremental run is a full one again")
    diversity: float = Field(
        0.0, ge=0, le=1, description="weight against products like those already in the list (MMR); 0 = off"
    )
    calibration: float = Field(
        0.0, ge=0, le=1, description="weight of the list having the mix of categories the user's history has; 0 = off"
    )
    calibration_column: str = Field(
        "category", min_length=1, description="column whose mix calibration keeps: category, brand, or an attribute"
    )

    @model_validator(mode="after")
    def _weights_fit(self) -> RecommendSettings:
        if self.diversity + self.calibration > 1:
            raise ValueError(f"diversity ({self.diversity}) and calibration ({self.calibration}) sum to more than 1")
        return self

    @field_validator("sources")
    @classmethod
    def _known_sources(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in SOURCES]
        if unknown or not names or len(set(names)) != len(names):
            wrong = f"unknown source {unknown[0]!r}; " if unknown else ""
            raise ValueError(f"{wrong}name some of {', '.join(SOURCES)}, each once")
        return names


class RuleSettings(Section):
    """What may not be recommended."""

    seen: Literal["repurchase", "exclude", "allow"] = Field(
        "repurchase", description="products a user has bought: only by way of the repurchase source, never, or always"
    )
    available_only: bool = Field(True, description="leave out products that are not available")
    replenish_days: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="category = days after its last purchase until a product may come back, before that never; "
        "'*' = all other categories; a category without an entry goes by seen",
    )
    price_min: float = Field(0, ge=0, description="leave out cheaper products; 0 = no bound")
    price_max: float = Field(0, ge=0, description="leave out dearer products; 0 = no bound")
    price_factor: float = Field(
        0, ge=0, description="2 = from half to twice the median price of what the user bought; 0 = off, else above 1"
    )
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="column = most products of one value a list, such as { brand = 3, category = 6 }"
    )
    exclude: list[str] = Field([], description="ids of products that are never recommended")
    include: list[str] = Field([], description="when not empty, only products with these ids are recommended")
    min_new: int = Field(0, ge=0, description="new products each list has at least, where candidates are new; 0 = off")
    new_days: float = Field(30, gt=0, description="days a product is new, by created_at or else its first event")

    @model_validator(mode="after")
    def _prices_fit(self) -> RuleSettings:
        if 0 < self.price_max < self.price_min:
            raise ValueError(f"price_max ({self.price_max}) is below price_min ({self.price_min})")
        if 0 < self.price_factor <= 1:
            raise ValueError(f"price_factor ({self.price_factor}) must be 0 or above 1, such as 2 for half to twice")
        return self


class EmbeddingSettings(Section):
    """The products' vectors on disk."""

    storage: Literal["float32", "int8"] = Field(
        "float32",
        description="how the table keeps its numbers; int8 = a quarter of the size, neighbours nearly the same; the "
        "database has float32 either way",
    )


class IndexSettings(Section):
    """The vector index behind `similar`."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "pq"] = Field(
        "auto", description="auto = exact up to 50,000 products, ivf up to 2,000,000, pq above"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where FAISS searches; auto = flat and ivf on a GPU where FAISS sees one"
    )
    max_changed: float = Field(
        0.2,
        ge=0,
        description="share of the products added, removed or changed since the index was trained above which it is "
        "built anew",
    )
    max_removed: float = Field(
        0.1, ge=0, le=1, description="share of places (hnsw, pq) without a product above which it is built anew"
    )
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="recall lost since the index was trained above which it is built anew"
    )


class ClusterSettings(Section):
    """Groups of products."""

    method: Literal["kmeans", "hdbscan", "agglomerative"] = Field(
        "kmeans",
        description="how products are grouped: kmeans = so many middles, agglomerative = a tree cut at so many, "
        "hdbscan = where products lie densely, the others in no group",
    )
    number: int = Field(
        0, ge=0, description="number of groups; 0 = chosen by silhouette; hdbscan finds the number itself"
    )
    smallest: int = Field(
        0,
        ge=0,
        description="hdbscan: fewest products of a group; 0 = a quarter of the root of the products, 5 at least",
    )
    terms: int = Field(4, ge=1, description="words in a group's label")
    exemplars: int = Field(6, ge=0, description="products named as examples of a group")
    map: Literal["pca", "tsne", "umap", "none"] = Field(
        "tsne",
        description="map of the products: tsne, pca (quicker, less clear), umap (needs recsys[umap]), or none",
    )

    @model_validator(mode="after")
    def _hdbscan_counts_itself(self) -> ClusterSettings:
        if self.method == "hdbscan" and self.number:
            raise ValueError(
                f"hdbscan finds the number of groups itself, so number ({self.number}) cannot be given; leave it 0, or "
                "take kmeans or agglomerative"
            )
        if self.smallest == 1:
            raise ValueError("smallest (1) must be 0 or at least 2")
        return self


class PublishSettings(Section):
    """Guards before the pointer moves, and how many runs are kept."""

    min_user_coverage: float = Field(0.98, ge=0, le=1, description="share of the expected users that must have a list")
    min_catalogue_coverage: float = Field(
        0.0, ge=0, le=1, description="share of the sellable products that must appear somewhere"
    )
    min_overlap: float = Field(
        0.0, ge=0, le=1, description="mean share of a user's list that must stay from the last run; 0 = no bound"
    )
    keep_runs: int = Field(3, ge=1, description="published runs kept for rollback")


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
