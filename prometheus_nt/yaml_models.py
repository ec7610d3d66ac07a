"""Strict models from YAML: read, merge layer by layer, and say what is wrong in a line each."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params

Settled = TypeVar("Settled", bound=Params)
Location = tuple[int | str, ...]
Origin = Callable[[Location], str]
"""Returns what to put before the location of a setting to say where it was given."""


def assignment_of(assignment: str) -> tuple[str, Any]:
    """Return the dotted setting and the value of `key=value`."""
    dotted, separator, text = assignment.partition("=")
    if not separator:
        raise ConfigError(f"--set {assignment!r}: expected key=value, for example seed=7")
    return dotted.strip(), value_of(f"--set {assignment}", text)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; a key given twice is an error."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{path}: cannot be read: {unreadable}") from None
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError) as malformed:
        raise ConfigError(f"{path}: not valid YAML: {malformed}") from None
    if content is None:
        raise ConfigError(f"{path}: is empty; `configs/` holds files to start from")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


def validated(model: type[Settled], content: Mapping[str, Any], source: str) -> Settled:
    """Return the content of a file as a model.

    Raises
    ------
    ConfigError
        With a line for each mistake: `source`, the field, what was found and what expected.
    """
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        lines = explained(model, invalid)
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, mapping by mapping; lists are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = deep_merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def layered(
    model: type[Settled],
    layers: tuple[Mapping[str, Any], Settled, Mapping[str, Any]],
    origin: Origin,
) -> Settled:
    """Return the defaults, then what a family implies, the node gives, and the sleeve gives."""
    implied, given, own = layers
    merged = deep_merge(deep_merge(implied, given.model_dump(exclude_unset=True)), own)
    try:
        return model.model_validate(merged)
    except ValidationError as invalid:
        raise ConfigError("\n".join(explained(model, invalid, origin))) from None


def holds(given: Mapping[str, Any], location: Location) -> bool:
    """Return whether a mapping gives a setting, or any part of it; the root is nobody's."""
    found: Any = given
    for key in location:
        if not isinstance(found, Mapping):
            return True
        if key not in found:
            return False
        found = found[key]
    return bool(location)


class _StrictLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before merge keys are resolved: afterwards an overridden key looks like a repeated one.
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{node.start_mark}: given twice: {', '.join(twice)}")
        return node


def value_of(where: str, text: str) -> Any:
    """Return the value that a YAML text means; `where` is named if it means none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as malformed:
        raise ConfigError(f"{where}: {text!r} is not a YAML value: {malformed}") from None


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Return `{"a": {"b": value}}` for the setting `a.b`."""
    for key in reversed(dotted.strip().split(".")):
        value = {key: value}
    nested: dict[str, Any] = value
    return nested


def explained(
    model: type[BaseModel], invalid: ValidationError, origin: Origin = lambda _: ""
) -> list[str]:
    """Return one line per error: the field, what was expected, and what was found."""
    lines = []
    errors = invalid.errors()
    deep = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    for error in errors:
        if error["type"] == "too_short" and error["loc"] in deep:
            continue  # pydantic leaves invalid members out, then counts the rest
        path = (origin(error["loc"]) + ".".join(map(str, error["loc"]))).rstrip(".")
        if error["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown field{_suggestion(model, error['loc'])}")
        elif error["type"] == "missing":
            lines.append(f"{path}: required, but not given")
        else:
            found = f", found {_readable(error['input'])}" if path else ""
            problem = error["msg"].removeprefix("Value error, ")
            lines.append(f"{path or 'the file'}: {problem}{found}")
    return lines


def _readable(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={found}" for name, found in value.items())
    return repr(value)


def _suggestion(model: type[BaseModel], location: Location) -> str:
    known: Any = model
    for part in location[:-1]:
        if isinstance(part, str) and isinstance(known, type) and issubclass(known, BaseModel):
            known = known.model_fields[part].annotation
        elif isinstance(part, int):
            known = known.__args__[0]
    if not (isinstance(known, type) and issubclass(known, BaseModel)):
        return ""
    close = difflib.get_close_matches(str(location[-1]), known.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known.model_fields)}"
