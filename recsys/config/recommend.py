"""Settings of candidate retrieval, rules and publishing: [recommend], [rules], [publish].

In: values. Out: frozen, validated sections.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config.section import Section

SOURCES = ("sequence", "repurchase", "co_purchase", "transitions", "ease", "popular", "content", "cluster", "fresh")
"""Names of the candidate sources that `recommend.sources` may list."""


class RecommendSettings(Section):
    """Recommendations of the nightly run."""

    k: int = Field(12, ge=1, description="recommendations per user")
    placement: str = Field(
        "default", min_length=1, max_length=64, description="name under which the shop reads these recommendations"
    )
    sources: list[str] = Field(list(SOURCES), description="candidate sources to use")
    candidates: int = Field(100, ge=1, description="candidates per source and user")
    popular_days: float = Field(7, gt=0, description="days of purchases counted by 'popular'")
    fresh_days: float = Field(14, gt=0, description="days after which 'fresh' no longer treats a product as new")
    ease_products: int = Field(
        12_000, ge=2, description="number of most bought products in 'ease'; memory grows with its square"
    )
    approximate: bool = Field(
        False, description="let 'sequence' and 'content' search approximately; for catalogues of millions of products"
    )
    recall: float = Field(0.99, gt=0, le=1, description="minimum recall of approximate search, measured on a sample")
    shard_users: int = Field(2000, ge=1, description="users per shard; a shard is written in one transaction")
    engine: Literal["local", "processes", "ray"] = Field(
        "local", description="executor: local = this process, processes = several, ray = Ray (extra recsys[ray])"
    )
    workers: int = Field(0, ge=0, description="number of processes or Ray actors; 0 = one per CPU core")
    incremental: bool = Field(
        False,
        description="recompute only lists affected by new events or sold-out products and copy the others; models stay "
        "those of the last full run",
    )
    full_days: float = Field(7, gt=0, description="days after which an incremental run becomes a full run")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the penalty for similarity to products already in the list (MMR); 0 = off",
    )
    calibration: float = Field(
        0.0, ge=0, le=1, description="weight of matching the category mix of the user's history; 0 = off"
    )
    calibration_column: str = Field(
        "category", min_length=1, description="column whose mix calibration matches: category, brand, or an attribute"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> RecommendSettings:
        if self.diversity + self.calibration > 1:
            raise ValueError(f"diversity ({self.diversity}) and calibration ({self.calibration}) sum to more than 1")
        return self

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in SOURCES]
        if unknown or not names or len(set(names)) != len(names):
            prefix = f"unknown source {unknown[0]!r}; " if unknown else ""
            raise ValueError(f"{prefix}name some of {', '.join(SOURCES)}, each once")
        return names


class RuleSettings(Section):
    """Business rules: which products may be recommended."""

    seen: Literal["repurchase", "exclude", "allow"] = Field(
        "repurchase",
        description="bought products: repurchase = only from the repurchase source, exclude = never, allow = always",
    )
    available_only: bool = Field(True, description="exclude products that are not available")
    replenish_days: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="category = days after a purchase during which the product is excluded, afterwards it is allowed; "
        "'*' = all other categories; a category without an entry follows seen",
    )
    price_min: float = Field(0, ge=0, description="exclude cheaper products; 0 = no limit")
    price_max: float = Field(0, ge=0, description="exclude more expensive products; 0 = no limit")
    price_factor: float = Field(
        0, ge=0, description="2 = half to twice the median price of the user's purchases; 0 = off, otherwise above 1"
    )
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="column = maximum products per value in a list, such as { brand = 3, category = 6 }"
    )
    exclude: list[str] = Field([], description="ids of products that are never recommended")
    include: list[str] = Field([], description="if not empty, only products with these ids are recommended")
    min_new: int = Field(
        0, ge=0, description="minimum number of new products per list, if there are new candidates; 0 = off"
    )
    new_days: float = Field(30, gt=0, description="days a product counts as new, from created_at or its first event")

    @model_validator(mode="after")
    def _check_prices(self) -> RuleSettings:
        if 0 < self.price_max < self.price_min:
            raise ValueError(f"price_max ({self.price_max}) is below price_min ({self.price_min})")
        if 0 < self.price_factor <= 1:
            raise ValueError(f"price_factor ({self.price_factor}) must be 0 or above 1, such as 2 for half to twice")
        return self


class PublishSettings(Section):
    """Guards that a run must pass before it is published, and retention of runs."""

    min_user_coverage: float = Field(0.98, ge=0, le=1, description="minimum share of the expected users with a list")
    min_catalogue_coverage: float = Field(
        0.0, ge=0, le=1, description="minimum share of the sellable products in any list"
    )
    min_overlap: float = Field(
        0.0, ge=0, le=1, description="minimum mean share of a user's previous list that remains; 0 = no limit"
    )
    keep_runs: int = Field(3, ge=1, description="number of published runs kept for rollback")
