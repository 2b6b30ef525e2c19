"""A configuration as groups of keys within groups: its dotted keys, and those that decide a result."""

from collections.abc import Mapping
from typing import Any

# Settings that do not change what a run computes: they may differ between the halves of a run that was cut,
# and between a finished run and the same command given again.
FREE_KEYS = frozenset(
    {
        *("OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA", "DATASET.ROOT", "MODEL.COMPILE"),
        *("DATALOADER.NUM_WORKERS", "DATALOADER.CACHE_MB", "TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ"),
        *("TRAIN.RESUME", "TRAIN.RESUME_SECONDS", "TRAIN.TEXT_CACHE_MB"),
    }
)


def flatten(group: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a group and of the groups in it by dotted key: ``{"OPTIM.LR": 0.0075, …}``."""
    found: dict[str, Any] = {}
    for key, value in group.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def options_of_others(config: Mapping[str, Any], trainer: type | None) -> list[str]:
    """The groups below ``TRAINER`` that hold other methods' options.

    A method's own group is the one that its trainer names (``options_name``), or the one with the trainer's
    name in whatever case (``TRAINER.COOP`` for CoOp). Where there is neither, every group may be its own.

    Args:
        config: the configuration.
        trainer: the class of the run's trainer; None where it is not known.
    """
    wanted = getattr(trainer, "options_name", "") or config["TRAINER"]["NAME"]
    groups = [name for name, value in config["TRAINER"].items() if isinstance(value, Mapping)]
    own = [name for name in groups if name.lower() == wanted.lower()]
    return [name for name in groups if own and name not in own]


def deciding_settings(config: Mapping[str, Any], trainer: type | None) -> dict[str, Any]:
    """The settings that decide what a run computes, by dotted key: no free keys, no other methods' options.

    Args:
        config: the configuration.
        trainer: see ``options_of_others``.
    """
    others = tuple(f"TRAINER.{name}." for name in options_of_others(config, trainer))
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in FREE_KEYS and not key.startswith(others)
    }
