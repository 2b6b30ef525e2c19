"""Draws pictures of the demo's world: attributes and a style to RGB images.

Numbers are drawn by NumPy's PCG64, so that a seed gives the same pictures with any torch; arithmetic may
still differ in a last digit from machine to machine. Symbols: N pictures, S side in pixels. Coordinates of a
picture run from -1 to 1, to the right and down.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo import world
from demo.shapes import DISTANCES, box

SIDE = 48  # pixels

# RGB of world.COLOURS and of world.BACKGROUNDS, in their order.
COLOUR_RGB = torch.tensor(
    [
        *([0.86, 0.12, 0.12], [0.96, 0.55, 0.08], [0.95, 0.88, 0.12], [0.14, 0.62, 0.20]),
        *([0.12, 0.28, 0.85], [0.52, 0.16, 0.66], [0.97, 0.55, 0.75], [0.45, 0.27, 0.12]),
    ]
)
BACKGROUND_RGB = torch.tensor(
    [
        *([0.42, 0.55, 0.32], [0.80, 0.72, 0.55], [0.93, 0.94, 0.96]),
        *([0.08, 0.09, 0.17], [0.66, 0.67, 0.69], [0.45, 0.62, 0.74]),
    ]
)

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """How pictures look, whatever they show. Ranges are drawn from uniformly, picture by picture.

    Attributes:
        saturation, brightness: factors on the objects' colours.
        hue_noise: standard deviation of random changes of all colours.
        noise: standard deviation of pixel noise.
        blur: share of a 3x3 mean.
        clutter: number of muted bars and blobs in the background, both ends included.
        cast: factor on red, green and blue.
        fog: how far everything moves towards grey.
        rotation: standard deviation in radians, doubled.
        shading: strength of a brightness gradient over an object.
        ground: contrast of the background's own pattern.
    """

    saturation: Range = (0.8, 1.05)
    brightness: Range = (0.85, 1.1)
    hue_noise: float = 0.05
    noise: Range = (0.0, 0.06)
    blur: Range = (0.0, 0.5)
    clutter: tuple[int, int] = (0, 2)
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fog: float = 0.0
    rotation: float = 0.45
    shading: float = 0.15
    ground: float = 1.0


STYLES = {
    "plain": Style(),  # the pretraining's; the others are shifted away from it
    "warm": Style(
        saturation=(0.55, 0.8),
        brightness=(0.65, 0.95),
        hue_noise=0.06,
        noise=(0.05, 0.10),
        blur=(0.3, 0.8),
        clutter=(1, 4),
        cast=(1.0, 0.85, 0.6),
        fog=0.1,
        rotation=0.6,
        shading=0.3,
        ground=1.5,
    ),
    "cold": Style(
        saturation=(0.6, 0.9),
        brightness=(0.8, 1.1),
        hue_noise=0.08,
        noise=(0.05, 0.12),
        blur=(0.0, 0.4),
        clutter=(3, 6),
        cast=(0.65, 0.85, 1.1),
        fog=0.25,
        rotation=0.8,
        shading=0.5,
        ground=1.5,
    ),
    "dark": Style(
        saturation=(0.5, 0.8),
        brightness=(0.5, 0.8),
        noise=(0.02, 0.06),
        blur=(0.8, 1.0),
        clutter=(1, 3),
        cast=(0.85, 1.0, 0.8),
        fog=0.1,
    ),
}


class Dice:
    """Random tensors of a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw float32 numbers from low to high."""
        return torch.from_numpy(self.rng.random(shape, dtype=np.float32)) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 numbers of mean 0 and standard deviation 1."""
        return torch.from_numpy(self.rng.standard_normal(shape, dtype=np.float32))

    def flip(self, *shape: int) -> Tensor:
        """Toss a fair coin: bool."""
        return self.uniform(*shape) < 0.5


def render(pictures: np.ndarray, style: Style, rng: np.random.Generator) -> Tensor:
    """Draw pictures.

    Args:
        pictures: int table (N, 6) in the order of `world.ATTRIBUTES`.
        style: how they look.
        rng: where the random numbers come from.

    Returns:
        uint8 tensor (N, 3, S, S).
    """
    dice = Dice(rng)
    table = torch.as_tensor(pictures)
    centres = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    ground = BACKGROUND_RGB[table[:, world.BACKGROUND]] + dice.normal(len(table), 3) * style.hue_noise * 0.8
    image = _background(table[:, world.BACKGROUND], ground, x, y, style, dice)
    image = _clutter(image, ground, x, y, style, dice)
    image = _objects(image, table, x, y, style, dice)
    image = image * torch.tensor(style.cast).view(3, 1, 1)
    fog = style.fog * dice.uniform(len(table), 1, 1, 1, low=0.5, high=1.5)
    image = image.lerp(torch.full_like(image, 0.5), fog)
    mean = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = image.lerp(mean, dice.uniform(len(table), 1, 1, 1, low=style.blur[0], high=style.blur[1]))
    strength = dice.uniform(len(table), 1, 1, 1, low=style.noise[0], high=style.noise[1])
    image = image + dice.normal(len(table), 3, SIDE, SIDE) * strength
    return (image.clamp(0, 1) * 255).to(torch.uint8)


def _background(kind: Tensor, ground: Tensor, x: Tensor, y: Tensor, style: Style, dice: Dice) -> Tensor:
    """Fill pictures (N, 3, S, S) with the colour (N, 3) and the pattern of their background (N,)."""
    n = len(kind)
    slope = dice.normal(n, 2, 1, 1) * 0.06 * style.ground
    fine = dice.normal(n, 1, SIDE, SIDE)
    coarse = F.interpolate(dice.normal(n, 1, 6, 6), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    blades = F.avg_pool2d(fine, (7, 1), 1, (3, 0)) * 2.6
    specks = (dice.uniform(n, 1, SIDE, SIDE) > 0.985).float()
    phase, bend = dice.uniform(n, 1, 1, 1, high=6), dice.uniform(n, 1, 1, 1, high=6)
    waves = torch.sin(y * 14 + torch.sin(x * 5 + bend) * 1.2 + phase)
    patterns = [blades * 0.09, fine * 0.06, specks * -0.15, specks * 0.5, coarse * 0.05, waves * 0.07]
    pattern = torch.stack(patterns)[kind, torch.arange(n)] * style.ground + coarse * 0.05 * (style.ground - 1)
    return ground[:, :, None, None] + slope[:, :1] * x + slope[:, 1:] * y + pattern


def _clutter(image: Tensor, ground: Tensor, x: Tensor, y: Tensor, style: Style, dice: Dice) -> Tensor:
    """Put soft, muted bars and blobs into the background."""
    n = len(image)
    fewest, most = style.clutter
    numbers = torch.from_numpy(dice.rng.integers(fewest, most + 1, size=n))
    for i in range(most):
        left, top = dice.uniform(n, 1, 1, low=-1), dice.uniform(n, 1, 1, low=-1)
        long, short = (dice.uniform(n, 1, 1, low=0.05, high=0.25) for _ in range(2))
        u, v = _turned(x - left, y - top, dice.uniform(n, 1, 1, high=math.pi))
        bar, blob = box(u, v, long * 2, short * 0.3), torch.hypot(u, v) - long * 0.8
        distance = torch.where(dice.flip(n, 1, 1), bar, blob)
        opacity = torch.sigmoid(-distance * SIDE * 0.9) * 0.8 * (i < numbers).view(n, 1, 1)
        colour = ground * 0.4 + dice.uniform(n, 3) * 0.6
        image = image.lerp(colour[:, :, None, None].expand_as(image), opacity[:, None])
    return image


def _objects(image: Tensor, table: Tensor, x: Tensor, y: Tensor, style: Style, dice: Dice) -> Tensor:
    """Draw the one, two or three objects of each picture."""
    n = len(table)
    colour, texture, shape, size, count, _ = table.T
    front = _paint(COLOUR_RGB[colour], style, dice)
    white = dice.flip(n, 1).float().expand(n, 3) * 0.92  # the texture's second colour: near white or black
    back = front.lerp(white, dice.uniform(n, 1, low=0.62, high=0.77))
    tilt = dice.normal(n) * style.rotation * 0.5
    around = dice.uniform(n, high=2 * math.pi)
    pitch = dice.uniform(n, 1, 1, low=2.2, high=3.2)  # stripes a radius, in half turns
    turn, phase = (dice.uniform(n, 1, 1, high=2 * math.pi) for _ in range(2))
    alone, large = count == 0, size == 1
    for i in range(3):
        spread = dice.uniform(n)
        radius = torch.where(
            alone,
            torch.where(large, 0.58 + 0.22 * spread, 0.26 + 0.12 * spread),
            torch.where(large, 0.34 + 0.08 * spread, 0.20 + 0.05 * spread),
        )
        away = torch.tensor([0.0, 0.48, 0.55])[count]  # two or three objects stand around the middle
        angle = around + i * 2 * math.pi / (count + 1)
        stray = torch.where(alone, (1 - radius).clamp(min=0.05) * 0.7, torch.tensor(0.08))
        left = away * angle.cos() + dice.uniform(n, low=-1) * stray
        top = away * angle.sin() + dice.uniform(n, low=-1) * stray
        rotation = tilt + dice.normal(n) * 0.12 * ~alone
        radius, left, top, rotation = (value.view(n, 1, 1) for value in (radius, left, top, rotation))
        u, v = _turned((x - left) / radius, (y - top) / radius, rotation)
        opacity = torch.sigmoid(-_distance(shape, u, v) * radius * SIDE * 1.1) * (i <= count).view(n, 1, 1)
        narrow = torch.where(radius < 0.45, 0.62, 1.0)  # wider stripes on small objects, or they would blur
        share = _texture(texture, *_turned(u, v, turn), pitch * math.pi * narrow, phase)
        pixels = front[:, :, None, None].lerp(back[:, :, None, None], share[:, None])
        light = 1 + style.shading * dice.normal(n, 1, 1) * (u + v) * 0.3
        image = image.lerp(pixels * light[:, None], opacity[:, None])
    return image


def _paint(rgb: Tensor, style: Style, dice: Dice) -> Tensor:
    """Vary colours (N, 3) within the style."""
    n = len(rgb)
    grey = rgb.mean(1, keepdim=True)
    rgb = grey + (rgb - grey) * dice.uniform(n, 1, low=style.saturation[0], high=style.saturation[1])
    bright = dice.uniform(n, 1, low=style.brightness[0], high=style.brightness[1])
    return rgb * bright + dice.normal(n, 3) * style.hue_noise


def _texture(kind: Tensor, u: Tensor, v: Tensor, pitch: Tensor, phase: Tensor) -> Tensor:
    """Share (N, S, S) of the second colour: none for solid, stripes, dots, checks."""
    stripes = torch.sigmoid(4 * torch.sin(u * pitch + phase))
    dots = torch.sigmoid(6 * (torch.cos(u * pitch + phase) + torch.cos(v * pitch + phase) - 0.75))
    checks = torch.sigmoid(8 * torch.sin(u * pitch + phase) * torch.sin(v * pitch + phase))
    shares = torch.stack([torch.zeros_like(stripes), stripes, dots, checks])
    return shares[kind, torch.arange(len(kind))]


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = angle.cos(), angle.sin()
    return x * cos + y * sin, -x * sin + y * cos


def _distance(shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (N, S, S) to the edge of each picture's shape, negative inside."""
    distance = torch.empty_like(x)
    for number, name in enumerate(world.SHAPES):
        chosen = shape == number
        if chosen.any():
            distance[chosen] = DISTANCES[name](x[chosen], y[chosen])
    return distance
