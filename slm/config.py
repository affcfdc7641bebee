"""ConfigDict → frozen dataclasses: converts, and refuses unknown keys and wrong types."""

import dataclasses
import json
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import ml_collections

Dataclass = TypeVar("Dataclass")


def select(argument: str | None, variants: Mapping[str, Any], job: str) -> ml_collections.ConfigDict:
    """What a config file's `get_config` returns: a variant as a ConfigDict, with overrides.

    Args:
      argument: `NAME[,key=value…]`, the part of `--config=FILE:…` after the colon; keys are dotted field names.
      variants: dataclass instances by name; the first is the default.
      job: the job that runs it.

    Raises:
      ValueError: an unknown name or key; the message lists the known ones.
    """
    name, *pairs = (argument or next(iter(variants))).split(",")
    if name not in variants:
        raise ValueError(f"configs/{job}.py has no variant {name!r}: choose one of {', '.join(variants)}")
    config = to_config_dict(variants[name])
    config.job, config.variant = job, name
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f"{pair!r} after configs/{job}.py:{name} is not key=value")
        *parents, last = key.split(".")
        node = config
        for part in parents:
            node = node.get(part) if isinstance(node, ml_collections.ConfigDict) else None
        known = isinstance(node, ml_collections.ConfigDict) and last in node
        if not known or isinstance(node[last], ml_collections.ConfigDict):
            raise ValueError(f"{key!r} after configs/{job}.py:{name} is not a setting{renamed(key, names(config))}: "
                             f"known are {', '.join(names(config))}")
        try:
            node[last] = _parse(value, node[last])
        except ValueError:
            raise ValueError(f"{key}={value!r} after configs/{job}.py:{name}: expected {type(node[last]).__name__}, "
                             f"as in {node[last]!r}") from None
    return config


def _parse(text: str, example: Any) -> Any:
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    return type(example)(text)


def names(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a config."""
    found: list[str] = []
    for key, value in config.items():
        nested = isinstance(value, ml_collections.ConfigDict)
        found += names(value, f"{prefix}{key}.") if nested else [prefix + key]
    return found


# What settings were called in earlier versions.
_RENAMED = {"floors": "baselines", "batch_rows": "batch_size", "row_length": "seq_len",
            "accumulation": "grad_accum_steps"}


def renamed(setting: str, known: Collection[str]) -> str:
    """", which is now called …" of a setting of an earlier version; else empty."""
    parents, dot, last = setting.rpartition(".")
    new = f"{parents}{dot}{_RENAMED.get(last, last)}"
    return f", which is now called {new}" if new != setting and new in known else ""


def to_config_dict(value: Any) -> ml_collections.ConfigDict:
    """A dataclass, and those inside it, as a ConfigDict whose fields flags can set.

    A tuple of dataclasses with a field `name` becomes a ConfigDict by those names, which sorts them.
    """
    def convert(item: Any) -> Any:
        if dataclasses.is_dataclass(item):
            return to_config_dict(item)
        if isinstance(item, tuple):
            return ml_collections.ConfigDict({part.name: to_config_dict(part) for part in item})
        return item
    return ml_collections.ConfigDict(
        {field.name: convert(getattr(value, field.name)) for field in dataclasses.fields(value)})


def freeze(kind: type[Dataclass], config: Mapping[str, Any], path: str = "config") -> Dataclass:
    """`config` as the frozen dataclass `kind`, whose own checks run last.

    Raises:
      ValueError: an unknown key, a wrong type, or a value that is not one of a Literal's.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(config) - set(hints))
    if unknown:
        raise ValueError(f"{path} has no setting {', '.join(map(repr, unknown))}{renamed(unknown[0], hints)}: known "
                         f"are {', '.join(hints)}")
    return kind(**{name: _convert(hints[name], value, f"{path}.{name}") for name, value in config.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return freeze(hint, value, path)
    if typing.get_origin(hint) is tuple:  # a list in the JSON of a checkpoint; in a config dataclasses by their names
        parts = enumerate(value) if isinstance(value, list | tuple) else value.items()
        return tuple(_convert(typing.get_args(hint)[0], part, f"{path}.{name}") for name, part in parts)
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ValueError(f"{path}={value!r}: choose one of {', '.join(map(repr, choices))}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{path}={value!r} is a {type(value).__name__}, expected {hint.__name__}")
    return value


# What may change between runs in the same workdir: run length, speed, placement and input paths (a checkpoint carries
# its stream's fingerprint).
_MAY_CHANGE = ("config.train.", "config.corpus.workers", "config.corpus.executor", "config.mesh", "config.stream",
         "config.parallel", "config.runtime.threads", "config.step.grad_accum_steps", "config.model.remat",
         "config.model.scan_layers", "config.model.attention")
_MAY_NOT = ("config.train.checkpoints",)


def differences(old: Any, new: Any) -> dict[str, tuple]:
    """{name: (old, new)} of the settings, as plain dicts, that may not change between runs in one workdir."""
    changed = _differences(json.loads(json.dumps(old)), json.loads(json.dumps(new)), "config")  # tuples become lists
    return {name: pair for name, pair in changed.items()
            if not name.startswith(_MAY_CHANGE) or name.startswith(_MAY_NOT)}


def _differences(old: Any, new: Any, path: str) -> dict[str, tuple]:
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: pair for key in sorted({*old, *new})
                for name, pair in _differences(old.get(key), new.get(key), f"{path}.{key}").items()}
    return {} if old == new else {path: (old, new)}
