"""Every setting there is (`sections`), and where each one comes from (`layers`).

In: flags, environment `RECSYS_*`, `recsys.toml`, defaults, in this order of precedence. Out: frozen `Settings`.
"""

from recsys.config.finding import SearchSettings
from recsys.config.judging import EvaluateSettings, ReportSettings
from recsys.config.layers import FILE, Layered, load, read, template, value_of
from recsys.config.learning import EncoderSettings, ObjectiveSettings, RankerSettings, TrainingSettings
from recsys.config.section import Section
from recsys.config.sections import (
    SOURCES,
    ClusterSettings,
    DatabaseSettings,
    DataSettings,
    EmbeddingSettings,
    ImageSettings,
    IndexSettings,
    PublishSettings,
    RecommendSettings,
    RuleSettings,
    Settings,
    SourceSettings,
)

__all__ = [
    "FILE",
    "SOURCES",
    "ClusterSettings",
    "DataSettings",
    "DatabaseSettings",
    "EmbeddingSettings",
    "EncoderSettings",
    "EvaluateSettings",
    "ImageSettings",
    "IndexSettings",
    "Layered",
    "ObjectiveSettings",
    "PublishSettings",
    "RankerSettings",
    "RecommendSettings",
    "ReportSettings",
    "RuleSettings",
    "SearchSettings",
    "Section",
    "Settings",
    "SourceSettings",
    "TrainingSettings",
    "load",
    "read",
    "template",
    "value_of",
]
