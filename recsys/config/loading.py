"""Where a setting comes from: flag > environment `RECSYS_*` > `recsys.toml` > default.

In: a project folder, flags by dotted name (`recommend.k`), the environment. Out: `LayeredSettings`: settings and their origins.
Written by hand over pydantic-settings because every unknown name, in the file and in the environment, is refused with
its place and a suggestion, and because that library alone takes longer to import than `recsys doctor` to run.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from recsys.config.section import Section
from recsys.config.settings import Settings
from recsys.errors import ConfigError, suggestion
from recsys.log import redact

FILE = "recsys.toml"
ENV_PREFIX = "RECSYS_"
NO_SETTINGS = frozenset({"RECSYS_FAILPOINTS"})
"""Variables of that prefix for tests of the program; see `execution.failpoints`."""
ENV_DATABASE = "RECSYS_DATABASE"
"""Short for `RECSYS_DATABASE__URL`."""


@dataclass(frozen=True)
class LayeredSettings:
    """Settings with, for each dotted name, the layer that decided: 'flag', 'environment', 'recsys.toml', 'default'."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _LayerValue:
    """A value some layer gives: `place` is how a message names it ('recsys.toml line 3')."""

    value: Any
    layer: str
    place: str


def names() -> dict[str, type[Section]]:
    """Every setting there is by dotted name, with the section class it stands in."""
    found: dict[str, type[Section]] = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= {f"{section}.{key}": kind for key in kind.model_fields}
    return found


def value_of(settings: Settings, name: str) -> Any:
    """The value of a dotted name; secrets stay wrapped."""
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def read(
    project: Path, *, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> LayeredSettings:
    """Read all layers.

    Args:
        project: the project folder; `recsys.toml` in it may be missing.
        flags: values from the command line by dotted name; None means the flag was not given.
        env: the environment, `os.environ` when not given.

    Raises:
        ConfigError: a name is unknown (with the nearest known one), a value does not fit, the file is not TOML.
    """
    given: dict[str, _LayerValue] = _from_file(project / FILE)
    given |= _from_environment(os.environ if env is None else env)
    for name, value in (flags or {}).items():
        if value is not None:
            _refuse_unknown(name, f"flag {name}")
            given[name] = _LayerValue(value, "flag", f"flag {name}")
    _read_secret_file(project, given)

    nested: dict[str, dict[str, Any]] = {}
    for name, item in given.items():
        section, key = name.split(".")
        nested.setdefault(section, {})[key] = item.value
    try:
        settings = Settings.model_validate({"project": project, **nested})
    except ValidationError as error:
        raise ConfigError(_complaint(error, given)) from None
    return LayeredSettings(settings, {name: given[name].layer if name in given else "default" for name in names()})


def load(project: Path, *, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read all layers and keep only the settings; see `read`."""
    return read(project, flags=flags, env=env).settings


def _refuse_unknown(name: str, place: str, *, spell: Any = str) -> None:
    known = names()
    if name in known:
        return
    section, _, key = name.partition(".")
    sections = {known_name.split(".")[0] for known_name in known}
    if section in sections and key:
        same = [known_name for known_name in known if known_name.startswith(section + ".")]
        nearest = suggestion(name, same) or suggestion(name, known)
        hint = nearest or f"; [{section}] has {', '.join(known_name.split('.')[1] for known_name in same)}"
    else:
        bare = next((f"; did you mean '{full}'?" for full in known if full.endswith(f".{name}")), "")
        hint = bare or suggestion(name, known) or suggestion(section, sections)
        hint = hint or f"; the sections are {', '.join(sorted(sections))}"
    raise ConfigError(f"{place}: unknown setting '{spell(name)}'{hint}")


def _from_file(path: Path) -> dict[str, _LayerValue]:
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from None
    lines = _line_numbers(text)
    out: dict[str, _LayerValue] = {}
    for section, body in tree.items():
        for key, value in body.items() if isinstance(body, dict) else [(None, body)]:
            name = section if key is None else f"{section}.{key}"
            place = f"{FILE} line {lines.get(name, lines.get(section, 1))}"
            _refuse_unknown(name, place)
            out[name] = _LayerValue(value, FILE, place)
        if isinstance(body, dict) and not body and not any(name.startswith(section + ".") for name in names()):
            _refuse_unknown(section, f"{FILE} line {lines.get(section, 1)}")
    return out


def _line_numbers(text: str) -> dict[str, int]:
    """Line of each section header and key, for messages (tomllib does not tell)."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = head[1].strip()
            found.setdefault(section, number)
        elif key := re.match(r"\s*([A-Za-z0-9_.\-]+)\s*=", line):
            found.setdefault(f"{section}.{key[1]}" if section else key[1], number)
    return found


def _from_environment(env: Mapping[str, str]) -> dict[str, _LayerValue]:
    out: dict[str, _LayerValue] = {}
    for variable in sorted(env):
        if not variable.startswith(ENV_PREFIX) or variable in NO_SETTINGS:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".", 1)
        name = "database.url" if variable == ENV_DATABASE else name
        _refuse_unknown(name, f"environment {variable}", spell=lambda _, variable=variable: variable)
        out[name] = _LayerValue(
            _parsed(env[variable], f"environment {variable}"), "environment", f"environment {variable}"
        )
    return out


def _parsed(text: str, place: str) -> Any:
    """A list or table in JSON, anything else as it stands; pydantic turns '12' into 12."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place}: not JSON: {error}") from None


def _read_secret_file(project: Path, given: dict[str, _LayerValue]) -> None:
    """Let `database.url_file` stand for `database.url` unless a higher layer gives the URL itself."""
    order = ["default", FILE, "environment", "flag"]
    named, url = given.get("database.url_file"), given.get("database.url")
    if named is None or (url is not None and order.index(url.layer) > order.index(named.layer)):
        return
    path = project / str(named.value)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named.place}: database.url_file {path} cannot be read: {error}") from None
    given["database.url"] = _LayerValue(SecretStr(text), named.layer, named.place)


def _complaint(error: ValidationError, given: Mapping[str, _LayerValue]) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    name = ".".join(parts[:2])
    item = given.get(name)
    message = redact(str(first["msg"]).removeprefix("Value error, "))
    if item is None:  # two keys of a section do not fit each other: name the places where it was changed
        places = [held.place for full, held in given.items() if full.startswith(f"{parts[0]}.")]
        return f"{', '.join(places) or 'defaults'}: [{parts[0]}]: {message}"
    secret = "url" in name or "query" in name
    shown = "" if secret else f" = {json.dumps(item.value, default=str, ensure_ascii=False)[:80]}"
    return f"{item.place}: {name}{shown}: {message}"


def template(values: Mapping[str, Any] | None = None) -> str:
    """The text of a new `recsys.toml`: every key with its default, commented out, and one line of explanation.

    Args:
        values: by dotted name, written as settings and not as comments.
    """
    chosen = dict(values or {})
    blocks = [
        "# Settings of this shop. A line like '#k = 12' shows the default; take the '#' away to change it.",
        "# Precedence: flag > environment (RECSYS_RECOMMEND__K=20, RECSYS_DATABASE=...) > this file > default.",
    ]
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            continue
        lines = ["", f"# {(kind.__doc__ or '').strip()}", f"[{section}]"]
        for key, setting in kind.model_fields.items():
            lines.append(f"# {setting.description}")
            if f"{section}.{key}" in chosen:
                lines.append(f"{key} = {_toml(chosen[f'{section}.{key}'])}")
            elif setting.default is None:
                lines.append(f'#{key} = "..."')
            else:
                lines.append(f"#{key} = {_toml(setting.default)}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        return _toml(value.get_secret_value())
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
