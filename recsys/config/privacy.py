"""Settings of privacy: [privacy].

In: values. Out: a frozen, validated section.
"""

from __future__ import annotations

from pydantic import Field

from recsys.config.section import Section


class PrivacySettings(Section):
    """What lists may tell one customer about others."""

    min_customers: int = Field(
        3,
        ge=1,
        description="different customers behind every association that is shown, such as 'bought together with': with "
        "fewer, the reason says something else and names no product",
    )
