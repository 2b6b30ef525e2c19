"""Draws the demo's data sets in CoOp's layout: PNG files, split files, descriptions of the classes.

    python demo/make_data.py --root data          # all of them: 10,480 pictures, 84 MB
    python demo/make_data.py --root data demo     # one
    python demo/make_data.py --contact-sheet sheet.png    # a look at the four styles

What is there already is not drawn again; a call that was cut is continued. Needs no network.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":  # before torch is imported, which takes seconds: Ctrl-C ends that with a line, too
    import command_line

    command_line.run("demo.make_data")

import argparse
import hashlib
import io
import json
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from command_line import names_file, one_line_errors, say
from datasets.preparation.layout import set_aside
from demo import world
from demo.render import SIDE, STYLES, render
from fileio import atomic_write

SEED = 1
STAMP = "drawn_by.sha256"  # beside a split file: digest of all that decides the pictures


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: registry name; the split file is called after it.
        style: how its pictures look.
        classes: a picture's attributes for each class, None where the pictures differ.
        named: the attributes that make a class's name.
        images: pictures of a class in each part.
        described_by: stem of the description file, if another data set's.
    """

    name: str
    style: str
    classes: tuple[world.Template, ...]
    named: tuple[int, ...]
    images: Mapping[str, int] = field(default_factory=lambda: {"train": 16, "val": 4, "test": 30})
    described_by: str = ""

    def class_names(self) -> list[str]:
        """The names in the order of the labels."""
        return [world.template_name(template, self.named) for template in self.classes]


def _few_shot(name: str, style: str, **more: object) -> DataSet:
    classes = tuple(map(world.few_shot_template, world.CLASSES))
    return DataSet(name, style, classes, (world.COLOUR, world.TEXTURE, world.SHAPE), **more)


def _pairs(name: str, style: str, one: int, other: int, count: int) -> DataSet:
    """Classes that two attributes make; `count` of all pairs are drawn."""
    values = list(world.ATTRIBUTES.values())
    pairs = [(i, j) for i in range(len(values[one])) for j in range(len(values[other]))]
    classes = []
    for i, j in sorted(random.Random(SEED).sample(pairs, count)):
        template: list[int | None] = [None] * len(values)
        template[world.COUNT] = 0
        template[one], template[other] = i, j
        classes.append(tuple(template))
    return DataSet(name, style, tuple(classes), (one, other))


# By folder below the data root, which is also the name of the YAML file.
DATA_SETS = {
    "demo": _few_shot("Demo", "warm", images={"train": 32, "val": 20, "test": 30}),
    "demo_cold": _few_shot("DemoCold", "cold", described_by="demo"),
    "demo_dark": _few_shot("DemoDark", "dark", described_by="demo"),
    "demo_colour_shape": _pairs("DemoColourShape", "warm", world.COLOUR, world.SHAPE, 20),
    "demo_shape_background": _pairs("DemoShapeBackground", "cold", world.BACKGROUND, world.SHAPE, 20),
    "demo_count_shape": _pairs("DemoCountShape", "dark", world.COUNT, world.SHAPE, 24),
}


def make(stem: str, data_set: DataSet, root: Path) -> str:
    """Draw one data set below the data root; the split file comes last and marks it as complete.

    Args:
        stem: name of the folder.
        data_set: what to draw.
        root: data root.

    Returns:
        What was done, for the user.

    Raises:
        ValueError: a folder of that name is there, but was not drawn by this script.
    """
    folder = root / stem
    split_path, described, stamp = written_files(stem, data_set, root)
    digest = recipe_digest(data_set)
    check_ours(folder)
    split: dict[str, list] = {part: [] for part in data_set.images}
    files = [class_files(folder, name, data_set.images) for name in data_set.class_names()]
    for label, name in enumerate(data_set.class_names()):
        for part, paths in files[label].items():
            split[part] += [[path.relative_to(folder / "images").as_posix(), label, name] for path in paths]
    content = json.dumps(split).encode()
    if stamp.is_file() and stamp.read_text().strip() != digest:  # by another version: draw anew
        remove_drawn(folder, data_set)
        if split_path.is_file() and split_path.read_bytes() != content:  # names what is no more
            set_aside(split_path)
    write(stamp, digest.encode() + b"\n")
    drawn = 0
    for label, parts in enumerate(tqdm(files, desc=stem, unit="class")):
        drawn += draw_class(stem, label, data_set, [path for paths in parts.values() for path in paths])
    write_unless_changed(described, json.dumps(descriptions(data_set), indent=1).encode())
    write_unless_changed(split_path, content)
    count = sum(map(len, split.values()))
    return f"{folder}: {len(data_set.classes)} classes, {count} pictures, {drawn} of them drawn now"


def written_files(stem: str, data_set: DataSet, root: Path) -> tuple[Path, Path, Path]:
    """Where a data set's split file, its descriptions and its stamp lie."""
    folder = root / stem
    described = root / "descriptions" / f"{data_set.described_by or stem}.json"
    return folder / f"split_zhou_{data_set.name}.json", described, folder / STAMP


def check_ours(folder: Path) -> None:
    """Raises ValueError if a folder holds something that was not drawn here."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STAMP).is_file():
        raise ValueError(f'"{folder}" was not made by this script: move it away, or choose another --root')


def is_drawn(stem: str, root: Path) -> bool:
    """Whether a data set is complete and of this version, without a look at each picture."""
    split_path, described, stamp = written_files(stem, DATA_SETS[stem], root)
    if not (split_path.is_file() and described.is_file() and stamp.is_file()):
        return False
    return stamp.read_text().strip() == recipe_digest(DATA_SETS[stem])


def remove_drawn(folder: Path, data_set: DataSet) -> None:
    """Delete the pictures that are to be drawn anew, and nothing else that lies there."""
    for name in data_set.class_names():
        for paths in class_files(folder, name, data_set.images).values():
            for path in paths:
                path.unlink(missing_ok=True)


def class_files(folder: Path, name: str, images: Mapping[str, int]) -> dict[str, list[Path]]:
    """The picture files of a class by part."""
    where = folder / "images" / name.replace(" ", "_")
    return {part: [where / f"{part}_{i:03d}.png" for i in range(count)] for part, count in images.items()}


def draw_class(stem: str, label: int, data_set: DataSet, files: list[Path]) -> int:
    """Draw the pictures of a class unless all are there; returns how many were written.

    Each class has a generator of its own, so that a cut call ends with the files of an uncut one.
    """
    if all(path.is_file() and path.stat().st_size for path in files):
        return 0
    rng = np.random.default_rng([SEED, zlib.crc32(stem.encode()), label])
    table = world.pictures_of(data_set.classes[label], len(files), rng)
    for path, image in zip(files, render(table, STYLES[data_set.style], rng), strict=True):
        content = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, format="PNG")
        write(path, content.getvalue())
    return len(files)


def descriptions(data_set: DataSet) -> dict[str, list[str]]:
    """Twenty sentences for each class, in words of the world alone."""
    return dict(zip(data_set.class_names(), map(world.descriptions, data_set.classes), strict=True))


def recipe_digest(data_set: DataSet) -> str:
    """SHA-256 of what decides the files of a data set: its definition, the seed and the code that draws."""
    code = b"".join(
        (Path(__file__).parent / file).read_bytes() for file in ("world.py", "shapes.py", "render.py")
    )
    return hashlib.sha256(repr((data_set, SEED)).encode() + code).hexdigest()


def write(path: Path, content: bytes) -> None:
    """Write a file at once: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, sync=False) as file:  # thousands of pictures, which are quickly drawn again
        file.write(content)


def write_unless_changed(path: Path, content: bytes) -> None:
    """Write a file, unless one with another content is there: the user's, which stays."""
    if not path.exists():
        write(path, content)
    elif path.read_bytes() != content:
        say(f'warning: "{path}" was changed and stays as it is; delete it to get the original')


def contact_sheet(columns: int = 12, zoom: int = 2) -> Image.Image:
    """Two rows of pictures a style, the same contents in each."""
    i = np.arange(2 * columns)
    later = i >= 4 * columns // 3  # the last third shows small and several objects
    table = np.stack([i % 8, i // 2 % 4, i % 12, 1 - i % 2 * later, (1 + i % 2) * later, i % 6], axis=1)
    side, margin = SIDE * zoom, 70
    sheet = Image.new("RGB", (margin + columns * side, 2 * len(STYLES) * side), "white")
    for row, (name, style) in enumerate(STYLES.items()):
        ImageDraw.Draw(sheet).text((8, (2 * row + 1) * side), name, fill="black")
        for number, image in enumerate(render(table, style, np.random.default_rng(SEED))):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (margin + number % columns * side, (2 * row + number // columns) * side))
    return sheet


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data_sets", nargs="*", metavar="DATA_SET", help=f"default: {' '.join(DATA_SETS)}")
    parser.add_argument("--root", type=Path, help="data root")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="only write this overview")
    args = parser.parse_args(argv)
    unknown = [name for name in args.data_sets if name not in DATA_SETS]
    if unknown:
        parser.error(f"no data set {', '.join(unknown)}; there are {', '.join(DATA_SETS)}")
    if not args.root and not args.contact_sheet:
        parser.error("say where: --root data, or --contact-sheet sheet.png")
    return args


@one_line_errors("the same command goes on")
def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 a mistake or a full disk, 130 interrupted."""
    args = parse_args(argv)
    if args.contact_sheet:
        with names_file(str(args.contact_sheet)):
            contact_sheet().save(args.contact_sheet)
        return 0
    for stem in args.data_sets or DATA_SETS:
        with names_file(str(args.root)):
            print(make(stem, DATA_SETS[stem], args.root.expanduser()))
    return 0
