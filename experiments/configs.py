"""What a run's settings are, and how two runs' differ."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf


def differences(one: DictConfig, other: DictConfig) -> list[str]:
    """Settings as `one` has them and `other` has not, but for where a run lies."""
    ours, theirs = flat(one), flat(other)
    return [
        f"{name}={value}"
        for name, value in ours.items()
        if name not in ("run_dir", "resume") and theirs.get(name) != value
    ]


def flat(config: DictConfig) -> dict[str, Any]:
    """{name of a setting with dots: its value}; lists are values."""
    found: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                visit(f"{prefix}{name}.", inner)
        else:
            found[prefix[:-1]] = value

    visit("", OmegaConf.to_container(config, resolve=True))
    return found
