"""Settings: the resolved config, versions, and what identifies each stage's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didact.core.manifest import StageRecord
from didact.reporting.formatting import shorten
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

CONFIG_CAP = 20_000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies one stage's result."""

    stage: str
    fingerprint: str
    outputs: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run would have to share to give the same.

    Attributes:
        config: The resolved config.
        environment: Versions a result may depend on.
        pool_fingerprint: Identity of the pool.
        fingerprints: Identities of the stages' results.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, str]
    pool_fingerprint: str
    fingerprints: tuple[Fingerprint, ...]


def _gather(subject: Subject) -> Settings:
    return Settings(
        config=dict(subject.config),
        environment=dict(subject.environment),
        pool_fingerprint=subject.pool.fingerprint,
        fingerprints=tuple(_fingerprint(s) for s in subject.stages),
    )


def _fingerprint(stage: StageRecord) -> Fingerprint:
    outputs = tuple((str(k), v) for k, v in list(stage.outputs.items())[:50])
    return Fingerprint(stage.name, stage.fingerprint, outputs, dict(stage.facts))


def _template_values(settings: Settings, _header: Header) -> Mapping[str, Any]:
    import yaml

    config = yaml.safe_dump(_yaml_values(settings.config), sort_keys=False, allow_unicode=True)
    return {
        "config": shorten(config, CONFIG_CAP),
        "facts": lambda found: ", ".join(f"{k}: {v}" for k, v in found.items())[:2000],
    }


def _yaml_values(value: Any) -> Any:
    """A value as YAML can write it."""
    if isinstance(value, Mapping):
        return {str(k): _yaml_values(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_yaml_values(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


SECTION = Section(
    name="settings", title="Settings", gather=_gather, template_values=_template_values
)
