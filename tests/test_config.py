"""Settings: precedence of the layers, refusal of unknown names with place and suggestion, the template, secrets."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DataSettings, Settings, load
from recsys.config.loading import read, setting_names, setting_value, toml_template
from recsys.errors import ConfigError


def write(project: Path, text: str) -> Path:
    (project / "recsys.toml").write_text(text, encoding="utf-8")
    return project


def test_defaults_without_a_file(tmp_path: Path) -> None:
    layered = read(tmp_path, env={})
    assert layered.settings == Settings(project=tmp_path)
    assert set(layered.origins.values()) == {"default"}
    assert set(layered.origins) == set(setting_names())


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    write(tmp_path, "[recommend]\nk = 3\ncandidates = 30\npopular_days = 3\n")
    env = {"RECSYS_RECOMMEND__K": "4", "RECSYS_RECOMMEND__CANDIDATES": "40"}
    layered = read(tmp_path, flags={"recommend.k": 5, "recommend.candidates": None}, env=env)
    chosen = layered.settings.recommend
    assert (chosen.k, chosen.candidates, chosen.popular_days, chosen.shard_users) == (5, 40, 3.0, 2000)
    origins = [layered.origins[f"recommend.{key}"] for key in ("k", "candidates", "popular_days", "shard_users")]
    assert origins == ["flag", "environment", "recsys.toml", "default"]


def test_the_database_variable_is_short_for_its_url(tmp_path: Path) -> None:
    assert load(tmp_path, env={"RECSYS_DATABASE": "postgresql://h/d"}).database_url == "postgresql://h/d"
    assert load(tmp_path, env={"RECSYS_DATABASE__URL": "postgresql://h/e"}).database_url == "postgresql://h/e"


def test_lists_and_tables_from_the_environment_are_json(tmp_path: Path) -> None:
    env = {"RECSYS_RECOMMEND__SOURCES": '["popular", "content"]', "RECSYS_DATA__EVENT_WEIGHTS": '{"purchase": 2}'}
    settings = load(tmp_path, env=env)
    assert settings.recommend.sources == ["popular", "content"]
    assert settings.data.event_weights == {**DataSettings().event_weights, "purchase": 2.0}
    for wrong in ('{"view": -1}', '{"veiw": 1}', '{"view": NaN}'):
        with pytest.raises(ConfigError, match="event_weights"):
            load(tmp_path, env={"RECSYS_DATA__EVENT_WEIGHTS": wrong})
    with pytest.raises(ConfigError, match="environment RECSYS_RECOMMEND__SOURCES: not JSON"):
        load(tmp_path, env={"RECSYS_RECOMMEND__SOURCES": "[popular"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[recommend]\n\nkk = 3\n",
            r"recsys.toml line 3: unknown setting 'recommend.kk'; did you mean 'recommend.k'\?",
        ),
        ("[recomend]\nk = 3\n", r"line 2: unknown setting 'recomend.k'; did you mean 'recommend.k'\?"),
        ("[encoder]\ndims = 64\n", r"line 2: unknown setting 'encoder.dims'; did you mean 'encoder.dim'\?"),
        ("recommend.k = 3\nencoder.dims = 64\n", r"line 2: unknown setting 'encoder.dims'"),
        ("popular_days = 3\n", r"line 1: unknown setting 'popular_days'; did you mean 'recommend.popular_days'\?"),
        ("[zzz]\n", r"line 1: unknown setting 'zzz'; the sections are cluster, data, database"),
        ("project = '/tmp'\n", r"line 1: unknown setting 'project'"),
        ("[recommend]\nk = 0\n", r"recsys.toml line 2: recommend.k = 0: Input should be greater than or equal to 1"),
        ("[recommend]\nk = 'ten'\n", r"line 2: recommend.k = \"ten\": Input should be a valid integer"),
        ("[recommend]\nsources = ['popula']\n", r"unknown source 'popula'; name some of sequence, repurchase"),
        ("[recommend]\nsources = ['content', 'content']\n", r"each once"),
        (
            "[encoder]\nwidth = 100\nheads = 3\n",
            r"line 2, recsys.toml line 3: \[encoder\]: heads \(3\) must divide width",
        ),
        ("[recommend\nk = 3\n", r"recsys.toml: cannot be read as TOML"),
        ("[[recommend]]\nk = 3\n", r"line 1: unknown setting 'recommend'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(write(tmp_path, text), env={})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_wrong_variable_or_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"environment RECSYS_RECOMEND__K: .*did you mean 'recommend.k'"):
        load(tmp_path, env={"RECSYS_RECOMEND__K": "3"})
    with pytest.raises(ConfigError, match=r"environment RECSYS_RECOMMEND__K: recommend.k = \"x\""):
        load(tmp_path, env={"RECSYS_RECOMMEND__K": "x"})
    with pytest.raises(ConfigError, match=r"flag recommend.k: recommend.k = 0"):
        load(tmp_path, env={}, flags={"recommend.k": 0})
    with pytest.raises(ConfigError, match=r"flag recommend.kk: unknown"):
        load(tmp_path, env={}, flags={"recommend.kk": 1})


def test_a_value_that_may_hold_a_secret_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[database]\nurl = ['postgresql://u:hunter2@h/d']\n"), env={})
    assert "hunter2" not in str(caught.value)
    assert "recsys.toml line 2: database.url" in str(caught.value)


def test_the_url_can_come_from_a_file_and_a_higher_layer_still_wins(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:hunter2@h/d\n")
    write(tmp_path, "[database]\nurl_file = 'url'\n")
    settings = load(tmp_path, env={})
    assert settings.database_url == "postgresql://u:hunter2@h/d"
    assert "hunter2" not in repr(settings)
    assert load(tmp_path, env={"RECSYS_DATABASE": "sqlite:////x.db"}).database_url == "sqlite:////x.db"
    write(tmp_path, "[database]\nurl_file = 'gone'\n")
    with pytest.raises(ConfigError, match=r"line 2: database.url_file .*gone cannot be read"):
        load(tmp_path, env={})


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sqlite:///shop.db", "sqlite:///{project}/shop.db"),
        ("sqlite+pysqlite:///a/b.db", "sqlite+pysqlite:///{project}/a/b.db"),
        ("sqlite:////var/shop.db", "sqlite:////var/shop.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql:///shop", "postgresql:///shop"),
    ],
)
def test_a_relative_sqlite_path_is_relative_to_the_project(tmp_path: Path, url: str, meant: str) -> None:
    assert load(tmp_path, env={}, flags={"database.url": url}).database_url == meant.format(project=tmp_path)


def test_the_template_is_toml_that_changes_nothing_and_names_every_key(tmp_path: Path) -> None:
    text = toml_template()
    assert load(write(tmp_path, text), env={}) == Settings(project=tmp_path)
    for name in setting_names():
        assert f"\n#{name.split('.')[1]} = " in text, name
    # Every line with a default, uncommented, is valid and is the default.
    shown = [line for line in text.splitlines() if not line.startswith("# ") and '"..."' not in line]
    settings = load(write(tmp_path, "\n".join(line.removeprefix("#") for line in shown)), env={})
    assert settings == Settings(project=tmp_path)


def test_the_template_carries_what_was_chosen(tmp_path: Path) -> None:
    write(tmp_path, toml_template({"database.url": 'sqlite:///other "x".db', "training.epochs": 3}))
    settings = load(tmp_path, env={})
    assert settings.database_url.endswith('other "x".db')
    assert settings.training.epochs == 3


@given(
    k=st.integers(1, 10_000), days=st.floats(0.01, 1000), sources=st.permutations(["popular", "content", "sequence"])
)
def test_a_value_read_is_the_value_written(k: int, days: float, sources: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layered = read(
            write(Path(folder), f"[recommend]\nk = {k}\npopular_days = {days}\nsources = {json.dumps(sources)}\n"),
            env={},
        )
    assert setting_value(layered.settings, "recommend.k") == k
    assert setting_value(layered.settings, "recommend.popular_days") == days
    assert setting_value(layered.settings, "recommend.sources") == sources


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path, env={})
    with pytest.raises(ValueError, match="frozen"):
        settings.recommend.k = 3
