"""The settings: their definitions (`settings`), and how they are loaded (`loading`).

In: flags, environment `RECSYS_*`, `recsys.toml`, defaults, in this order of precedence. Out: frozen `Settings`.
"""

from recsys.config.evaluation import EvaluateSettings, ReportSettings
from recsys.config.loading import FILE_NAME, LayeredSettings, load, read, setting_value, toml_template
from recsys.config.privacy import PrivacySettings
from recsys.config.recommend import SOURCES, PublishSettings, RecommendSettings, RuleSettings
from recsys.config.search import ClusterSettings, EmbeddingSettings, IndexSettings, SearchSettings
from recsys.config.section import Section
from recsys.config.settings import DatabaseSettings, DataSettings, ImageSettings, Settings, SourceSettings
from recsys.config.training import EncoderSettings, ObjectiveSettings, RankerSettings, TrainingSettings

__all__ = [
    "FILE_NAME",
    "SOURCES",
    "ClusterSettings",
    "DataSettings",
    "DatabaseSettings",
    "EmbeddingSettings",
    "EncoderSettings",
    "EvaluateSettings",
    "ImageSettings",
    "IndexSettings",
    "LayeredSettings",
    "ObjectiveSettings",
    "PrivacySettings",
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
    "toml_template",
    "setting_value",
]
