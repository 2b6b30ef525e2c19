"""Whether the tensors of a file are those that a model expects."""

from collections.abc import Mapping
from typing import Any


def tensor_problems(given: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, list[str]]:
    """What keeps a state dict from being loaded, by kind of problem; empty if nothing does.

    Args:
        given: the state dict of a file, tensors by name.
        expected: the model's own state dict.

    Returns:
        For ``missing``, ``unexpected``, ``of another shape``, ``of another kind`` (of numbers: floating point
        or not) and ``with NaN or infinity`` the names of the tensors; for shape and kind
        ``<name> <found> instead of <expected>``. Kinds of problem that there are not are left out.
    """
    both = [name for name in expected if name in given]
    problems = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in both
            if given[name].shape != expected[name].shape
        ],
        "of another kind": [
            f"{name} {given[name].dtype} instead of {expected[name].dtype}"
            for name in both
            if given[name].is_floating_point() != expected[name].is_floating_point()
        ],
        "with NaN or infinity": [name for name, tensor in given.items() if not tensor.isfinite().all()],
    }
    return {kind: names for kind, names in problems.items() if names}
