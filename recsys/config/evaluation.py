"""The sections about judging what comes out, and showing it.

In: values. Out: frozen, checked sections.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config.section import Section


class EvaluateSettings(Section):
    """Offline evaluation."""

    split: Literal["time", "last", "users"] = Field(
        "time",
        description="what is held back: the last days, the last purchase of each user, or a fifth of the users",
    )
    test_days: float = Field(2, gt=0, description="last days of the log, held out as the test of the split by time")
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
    k: int = Field(12, ge=1, description="length of the judged lists; NDCG, HR and MRR are always at 10")
    sampled: int = Field(
        0, ge=0, description="also rank the purchases among so many drawn products; 0 = only among all products"
    )
    bootstrap: int = Field(1000, ge=0, description="bootstrap samples over users for the intervals")
    max_users: int = Field(50_000, ge=1, description="test users at most, drawn by the seed")


class ReportSettings(Section):
    """The page that shows what the recommender knows and does."""

    nightly: bool = Field(True, description="write it at the end of `recsys run`")
    path: str = Field(
        "report.html",
        min_length=1,
        description="the HTML file, relative to the project folder; its numbers stand beside it as .json",
    )
    users: int = Field(
        20, ge=0, le=100, description="users shown with their history and list; 0 keeps users out of the page"
    )
    products: int = Field(300, ge=0, le=1000, description="products that can be chosen in the explorer of similar ones")
