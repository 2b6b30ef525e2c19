"""The outlines of the demo's objects as signed distances: negative inside, about 1 a radius.

Each takes coordinates (to the right, down) of any shape and returns distances of that shape.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def box(x: Tensor, y: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """A box of half-sides width and height around the origin."""
    return torch.maximum(x.abs() - width, y.abs() - height)


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.95


def _square(x: Tensor, y: Tensor) -> Tensor:
    return box(x, y, 0.82, 0.82)


def _folded(x: Tensor, y: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Polar coordinates, the angle measured from the nearest of evenly spaced axes, one of them upright."""
    sector = 2 * math.pi / axes
    angle = torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2
    return torch.hypot(x, y), angle


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    radius, angle = _folded(x, -y, 3)
    return radius * angle.cos() - 1.15 * math.cos(math.pi / 3)


def _hexagon(x: Tensor, y: Tensor) -> Tensor:
    radius, angle = _folded(x, y, 6)
    return radius * angle.cos() - math.cos(math.pi / 6)


def _star(x: Tensor, y: Tensor) -> Tensor:
    radius, angle = _folded(x, y, 5)
    along, across = radius * angle.cos(), radius * angle.abs().sin()
    # The edge runs from the tip (1.1, 0) to the inner corner at radius 0.46.
    edge_x, edge_y = 0.46 * math.cos(math.pi / 5) - 1.1, 0.46 * math.sin(math.pi / 5)
    return ((along - 1.1) * edge_y - across * edge_x) / math.hypot(edge_x, edge_y)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(box(x, y, 1.0, 0.34), box(x, y, 0.34, 1.0))


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.72).abs() - 0.26


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs() * 1.05, -(y - 0.1) * 1.05
    value = (x**2 + y**2 - 0.8) ** 3 - 1.1 * x**2 * y**3
    return value.sign() * value.abs().clamp(min=1e-9) ** (1 / 3) * 0.6


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.98, 0.78 - torch.hypot(x - 0.45, y + 0.05))


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() / 0.58 + y.abs() / 1.08 - 1) * 0.5


def _arrow(x: Tensor, y: Tensor) -> Tensor:
    head = torch.maximum(-x, (x + 1.25 * y.abs() - 1.1) / 1.6)
    return torch.minimum(head, box(x + 0.45, y, 0.6, 0.26))


def _oval(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x / 1.12, y / 0.6) - 1) * 0.6


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "moon": _moon,
    "diamond": _diamond,
    "hexagon": _hexagon,
    "arrow": _arrow,
    "oval": _oval,
}
