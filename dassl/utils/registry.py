"""Classes by name: trainers, data sets, evaluators."""

import difflib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from yacs.config import CfgNode

logger = logging.getLogger(__name__)


class Registry:
    """A table of objects by their ``__name__``, filled by a decorator::

        @TRAINER_REGISTRY.register()
        class CoOp(TrainerX): ...

    Args:
        name: what the table holds; used in error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Registers ``obj``, or returns a decorator that does; ``force`` replaces one of the same name."""
        if obj is None:
            return self._decorator(force)
        name = obj.__name__
        if name in self._obj_map and not force:
            raise KeyError(f'An object named "{name}" was already registered in "{self._name}" registry')
        self._obj_map[name] = obj
        return None

    def _decorator(self, force: bool) -> Callable[[Any], Any]:
        def decorate(obj: Any) -> Any:
            self.register(obj, force=force)
            return obj

        return decorate

    def get(self, name: str) -> Any:
        """The object called ``name``; KeyError if there is none."""
        if name not in self._obj_map:
            raise KeyError(f'Object name "{name}" does not exist in "{self._name}" registry')
        return self._obj_map[name]

    def build(self, key: str, name: str, cfg: CfgNode, **kwargs: Any) -> Any:
        """Makes the object called ``name``, which the configuration has under ``key``."""
        check_availability(name, self.registered_names(), key)
        if cfg.VERBOSE:
            logger.info("Loading %s: %s", self._name.lower(), name)
        return self.get(name)(cfg, **kwargs)

    def registered_names(self) -> list[str]:
        return list(self._obj_map)


def check_availability(
    requested: str, available: Iterable[str], key: str = "the name", hint: str = ""
) -> None:
    """Raises a ValueError if ``requested`` is not among ``available``; says what is, and the nearest.

    Args:
        requested: a name.
        available: the names that there are.
        key: where the name comes from, for the message.
        hint: what else the reader can do, for the message.
    """
    available = list(available)
    if requested not in available:
        nearest = difflib.get_close_matches(requested, available, n=1)
        meant = f" (did you mean {nearest[0]}?)" if nearest else ""
        hint = f"; {hint}" if hint else ""
        raise ValueError(f'{key} is "{requested}"; set it to one of {", ".join(available)}{meant}{hint}')
