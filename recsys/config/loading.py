"""Load settings from their layers: flag > environment `RECSYS_*` > `recsys.toml` > default.

In: a project folder, flags by dotted name (`recommend.k`), the environment. Out: `LayeredSettings`.

This replaces pydantic-settings because every unknown name, in the file and in the environment, is refused with its
location and a suggestion, and because importing that library alone takes longer than running `recsys doctor`.
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

FILE_NAME = "recsys.toml"
ENV_PREFIX = "RECSYS_"
IGNORED_VARIABLES = frozenset({"RECSYS_FAILPOINTS"})
"""Variables with this prefix that are not settings but for tests; see `execution.failpoints`."""
DATABASE_VARIABLE = "RECSYS_DATABASE"
"""Short form of `RECSYS_DATABASE__URL`."""


@dataclass(frozen=True)
class LayeredSettings:
    """Settings, and by dotted name their layer: 'flag', 'environment', 'recsys.toml' or 'default'."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _LayerValue:
    """A value of a layer; `location` names it in messages ('recsys.toml line 3')."""

    value: Any
    layer: str
    location: str


def setting_names() -> dict[str, type[Section]]:
    """Return the dotted names of all settings, with their section class."""
    sections: dict[str, type[Section]] = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            sections |= {f"{section}.{key}": kind for key in kind.model_fields}
    return sections


def setting_value(settings: Settings, name: str) -> Any:
    """Return the value of a dotted name; secrets stay wrapped."""
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def read(
    project: Path, *, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> LayeredSettings:
    """Read and merge all layers.

    Args:
        project: the project folder; `recsys.toml` in it may be missing.
        flags: values from the command line by dotted name; None = flag not given.
        env: the environment; None = `os.environ`.

    Raises:
        ConfigError: a name is unknown (with the nearest known name), a value is invalid, or the file is not TOML.
    """
    values: dict[str, _LayerValue] = _read_file(project / FILE_NAME)
    values |= _read_environment(os.environ if env is None else env)
    for name, value in (flags or {}).items():
        if value is not None:
            _refuse_unknown(name, f"flag {name}")
            values[name] = _LayerValue(value, "flag", f"flag {name}")
    _read_secret_file(project, values)

    nested: dict[str, dict[str, Any]] = {}
    for name, item in values.items():
        section, key = name.split(".")
        nested.setdefault(section, {})[key] = item.value
    try:
        settings = Settings.model_validate({"project": project, **nested})
    except ValidationError as error:
        raise ConfigError(_format_validation_error(error, values)) from None
    return LayeredSettings(
        settings, {name: values[name].layer if name in values else "default" for name in setting_names()}
    )


def load(project: Path, *, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read all layers and return only the settings; see `read`."""
    return read(project, flags=flags, env=env).settings


def _refuse_unknown(name: str, location: str, *, display_name: str | None = None) -> None:
    """Raise ConfigError with a suggestion if there is no setting of this dotted name."""
    settings = setting_names()
    if name in settings:
        return
    section, _, key = name.partition(".")
    sections = {setting.split(".")[0] for setting in settings}
    if section in sections and key:
        siblings = [setting for setting in settings if setting.startswith(section + ".")]
        nearest = suggestion(name, siblings) or suggestion(name, settings)
        hint = nearest or f"; [{section}] has {', '.join(setting.split('.')[1] for setting in siblings)}"
    else:
        with_section = next(
            (f"; did you mean '{setting}'?" for setting in settings if setting.endswith(f".{name}")), ""
        )
        hint = with_section or suggestion(name, settings) or suggestion(section, sections)
        hint = hint or f"; the sections are {', '.join(sorted(sections))}"
    raise ConfigError(f"{location}: unknown setting '{display_name or name}'{hint}")


def _read_file(path: Path) -> dict[str, _LayerValue]:
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
            location = f"{FILE_NAME} line {lines.get(name, lines.get(section, 1))}"
            _refuse_unknown(name, location)
            out[name] = _LayerValue(value, FILE_NAME, location)
        if isinstance(body, dict) and not body and not any(name.startswith(section + ".") for name in setting_names()):
            _refuse_unknown(section, f"{FILE_NAME} line {lines.get(section, 1)}")
    return out


def _line_numbers(text: str) -> dict[str, int]:
    """Return the line number of each section header and key, which tomllib does not report."""
    numbers: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = head[1].strip()
            numbers.setdefault(section, number)
        elif key := re.match(r"\s*([A-Za-z0-9_.\-]+)\s*=", line):
            numbers.setdefault(f"{section}.{key[1]}" if section else key[1], number)
    return numbers


def _read_environment(env: Mapping[str, str]) -> dict[str, _LayerValue]:
    out: dict[str, _LayerValue] = {}
    for variable in sorted(env):
        if not variable.startswith(ENV_PREFIX) or variable in IGNORED_VARIABLES:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".", 1)
        name = "database.url" if variable == DATABASE_VARIABLE else name
        location = f"environment {variable}"
        _refuse_unknown(name, location, display_name=variable)
        out[name] = _LayerValue(_parse_variable(env[variable], location), "environment", location)
    return out


def _parse_variable(text: str, location: str) -> Any:
    """Parse a list or table from JSON, return any other text unchanged; pydantic converts '12' to 12."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{location}: not JSON: {error}") from None


def _read_secret_file(project: Path, values: dict[str, _LayerValue]) -> None:
    """Set `database.url` from `database.url_file` unless a higher layer sets the URL itself."""
    order = ["default", FILE_NAME, "environment", "flag"]
    url_file, url = values.get("database.url_file"), values.get("database.url")
    if url_file is None or (url is not None and order.index(url.layer) > order.index(url_file.layer)):
        return
    path = project / str(url_file.value)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{url_file.location}: database.url_file {path} cannot be read: {error}") from None
    values["database.url"] = _LayerValue(SecretStr(text), url_file.layer, url_file.location)


def _format_validation_error(error: ValidationError, values: Mapping[str, _LayerValue]) -> str:
    """Return one line with location, name and value of the first invalid setting; secrets are left out."""
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    name = ".".join(parts[:2])
    item = values.get(name)
    message = redact(str(first["msg"]).removeprefix("Value error, "))
    if item is None:  # two keys of a section contradict each other: name all locations that set keys of the section
        locations = [value.location for full_name, value in values.items() if full_name.startswith(f"{parts[0]}.")]
        return f"{', '.join(locations) or 'defaults'}: [{parts[0]}]: {message}"
    is_secret = "url" in name or "query" in name
    value_text = "" if is_secret else f" = {json.dumps(item.value, default=str, ensure_ascii=False)[:80]}"
    return f"{item.location}: {name}{value_text}: {message}"


def toml_template(values: Mapping[str, Any] | None = None) -> str:
    """Create the text of a new `recsys.toml`: every key commented out, with its default and a description.

    Args:
        values: by dotted name, written as settings instead of comments.
    """
    custom = dict(values or {})
    blocks = [
        "# Settings of this shop. A line like '#k = 12' shows the default; remove the '#' to change it.",
        "# Precedence: flag > environment (RECSYS_RECOMMEND__K=20, RECSYS_DATABASE=...) > this file > default.",
    ]
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            continue
        lines = ["", f"# {(kind.__doc__ or '').strip()}", f"[{section}]"]
        for key, setting in kind.model_fields.items():
            lines.append(f"# {setting.description}")
            if f"{section}.{key}" in custom:
                lines.append(f"{key} = {_format_toml(custom[f'{section}.{key}'])}")
            elif setting.default is None:
                lines.append(f'#{key} = "..."')
            else:
                lines.append(f"#{key} = {_format_toml(setting.default)}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"


def _format_toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        return _format_toml(value.get_secret_value())
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_format_toml_key(key)} = {_format_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _format_toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
