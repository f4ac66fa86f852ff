"""Settings of candidate retrieval, rules and publishing: [recommend], [rules], [publish].

In: values. Out: frozen, checked sections.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config.section import Section

SOURCES = ("sequence", "repurchase", "co_purchase", "transitions", "ease", "popular", "content", "cluster", "fresh")
"""The candidate sources there are, by the names `recommend.sources` may list."""


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
