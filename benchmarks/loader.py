"""Training images a second: reading, decoding and augmenting JPEG files, by number of worker processes.

    python benchmarks/loader.py --workers 0 2 8
    python benchmarks/loader.py --images /path/to/photographs

Without ``--images`` it makes images of noise, smoothed so that they compress like photographs. A step of 16
images waits for its loader where these are fewer a second than 16 divided by the step's seconds.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image, ImageFilter

from benchmarks import common
from command_line import natural, positive
from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.utils import read_image


def make_images(folder: Path, number: int, size: tuple[int, int], seed: int = 0) -> None:
    """Writes ``number`` JPEG files of ``size`` (width, height)."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(number):
        coarse = torch.randint(256, (size[1] // 8, size[0] // 8, 3), generator=generator, dtype=torch.uint8)
        image = Image.fromarray(coarse.numpy()).resize(size, Image.Resampling.BICUBIC)
        image.filter(ImageFilter.DETAIL).save(folder / f"{i:04d}.jpg", quality=90)


def training_loader(
    paths: list[Path], workers: int, batch: int, cache: float = 0
) -> torch.utils.data.DataLoader:
    """A loader with HeBA's augmentation; ``cache`` is the room for decoded images in MB."""
    cfg = get_cfg_default()
    cfg.INPUT.update(INTERPOLATION="bicubic", TRANSFORMS=("random_resized_crop", "random_flip", "normalize"))
    cfg.DATALOADER.update(NUM_WORKERS=workers, CACHE_MB=cache)
    source = [Datum(str(path), label=0, classname="a") for path in paths]
    transform = build_transform(cfg, is_train=True)
    return build_data_loader(
        cfg, "RandomSampler", source, batch, tfm=transform, is_train=True, dataset_wrapper=DatasetWrapper
    )


def seconds(call: object) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = common.plain_parser(__doc__, rounds=3)
    parser.add_argument("--images", type=common.existing, help="folder of photographs to use instead")
    parser.add_argument("--number", type=positive, default=160, help="images")
    parser.add_argument(
        "--size", type=positive, nargs=2, default=[500, 375], help="width and height of those made"
    )
    parser.add_argument("--workers", type=natural, nargs="+", default=[0, 2])
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--cache", type=float, default=1000.0, help="DATALOADER.CACHE_MB")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if not args.images:
            make_images(Path(made), args.number, tuple(args.size))
        folder = Path(args.images or made)
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        paths = paths[: args.number]
        if len(paths) < args.batch:
            where = f' in --images "{folder}"' if args.images else ""
            parser.error(f"{len(paths)} images{where} make no batch of {args.batch}; give more")
        table, raw = [], {}
        cases = {"decoding alone, no worker": lambda: [read_image(str(path)) for path in paths]}
        for workers in args.workers:
            for cache in (0, args.cache):
                loader = training_loader(paths, workers, args.batch, cache)
                name = f"loader, {workers} workers{', decoded images kept' * (cache > 0)}"
                cases[name] = lambda loader=loader: [None for _ in loader]
        for call in cases.values():
            for _ in range(3):
                call()  # starts the workers, fills the caches: each pass drops other images
        taken: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(args.rounds):
            for name, call in cases.items():
                taken[name].append(seconds(call))
        raw = taken
        for name, times in taken.items():
            number = len(paths) if name.startswith("decoding") else len(paths) // args.batch * args.batch
            median = statistics.median(times)
            table.append(
                {
                    "work": name,
                    "seconds (median)": f"{median:.3g}",
                    "lowest to highest": f"{min(times):.3g} to {max(times):.3g}",
                    "images/s": f"{number / median:.0f}",
                    "ms an image": f"{1e3 * median / number:.2f}",
                }
            )
    notes = [common.machine("cpu", torch.get_num_threads())]
    common.report(f"Loading {len(paths)} images, batches of {args.batch}", table, notes, raw, args)


if __name__ == "__main__":
    main()
