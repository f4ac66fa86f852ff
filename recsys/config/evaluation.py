"""Settings of evaluation and report: [evaluate], [report].

In: values. Out: frozen, validated sections.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config.section import Section


class EvaluateSettings(Section):
    """Offline evaluation."""

    split: Literal["time", "last", "users"] = Field(
        "time",
        description="holdout: time = the last days, last = the last purchase of each user, users = a fifth of the "
        "users",
    )
    target: Literal["purchase", "add_to_cart", "view", "wishlist", "rating", "return"] = Field(
        "purchase",
        description="event type that the evaluation predicts; with another one the baselines learn from it instead of "
        "purchases",
    )
    test_days: float = Field(2, gt=0, description="days at the end of the log held out by the split by time")
    models: list[str] = Field(
        [
            "popular",
            "popular-7d",
            "repurchase",
            "item-item",
            "ease",
            "als",
            "tf-idf",
            "repurchase+item-item+popular",
            "recsys",
        ],
        description="systems to compare",
    )
    k: int = Field(12, ge=1, description="length of the evaluated lists; NDCG, HR and MRR are always at 10")
    sampled: int = Field(
        0, ge=0, description="also rank the purchases among this many sampled products; 0 = among all products only"
    )
    bootstrap: int = Field(
        1000, ge=0, description="bootstrap samples over users for the confidence intervals; 0 = no intervals"
    )
    max_users: int = Field(50_000, ge=1, description="maximum number of test users, sampled with the seed")


class ReportSettings(Section):
    """The HTML report."""

    nightly: bool = Field(True, description="write the report at the end of `recsys run`")
    path: str = Field(
        "report.html",
        min_length=1,
        description="path of the HTML file, relative to the project folder; its numbers are written next to it as "
        ".json",
    )
    users: int = Field(20, ge=0, le=100, description="users shown with their history and recommendations; 0 = none")
    products: int = Field(300, ge=0, le=1000, description="products selectable in the explorer of similar products")
