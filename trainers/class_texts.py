"""What is known of the classes of each data set: CoOp's hand-written template, and where descriptions lie."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from adapt.prompts import TEMPLATE, ClassPrompts, ClassTexts, check_distinct

# Registry name: (description file below <data root>/descriptions, CoOp's hand-written template).
# The templates are those of CoOp's trainers/zsclip.py.
DATASETS = {
    "ImageNet": ("imagenet", "a photo of a {}."),
    "ImageNetV2": ("imagenet", "a photo of a {}."),
    "ImageNetSketch": ("imagenet", "a photo of a {}."),
    "ImageNetA": ("imagenet", "a photo of a {}."),
    "ImageNetR": ("imagenet", "a photo of a {}."),
    "Caltech101": ("caltech101", "a photo of a {}."),
    "OxfordPets": ("oxford_pets", "a photo of a {}, a type of pet."),
    "StanfordCars": ("stanford_cars", "a photo of a {}."),
    "OxfordFlowers": ("oxford_flowers", "a photo of a {}, a type of flower."),
    "Food101": ("food101", "a photo of {}, a type of food."),
    "FGVCAircraft": ("fgvc_aircraft", "a photo of a {}, a type of aircraft."),
    "SUN397": ("sun397", "a photo of a {}."),
    "DescribableTextures": ("dtd", "{} texture."),
    "EuroSAT": ("eurosat", "a centered satellite photo of {}."),
    "UCF101": ("ucf101", "a photo of a person doing {}."),
    "Demo": ("demo", "a photo of a {}."),
    "DemoCold": ("demo", "a photo of a {}."),
    "DemoDark": ("demo", "a photo of a {}."),
    "DemoColourShape": ("demo_colour_shape", "a photo of a {}."),
    "DemoShapeBackground": ("demo_shape_background", "a photo of a {}."),
    "DemoCountShape": ("demo_count_shape", "a photo of a {}."),
}


PREPARE = "-m datasets.prepare --root {} descriptions {}"


def class_texts(cfg: CfgNode) -> ClassTexts:
    """What the run's data set brings to the prompts of its classes.

    The template is ``DATASET.TEMPLATE``; if that is empty, CoOp's of the data set, "a photo of a {}." for any
    other. Descriptions lie in ``<data root>/descriptions/<data set>.json``.
    """
    name = cfg.DATASET.NAME
    stem, template = DATASETS.get(name, (name.lower(), TEMPLATE))
    root = Path(cfg.DATASET.ROOT).expanduser()
    command = "demo/make_data.py --root {} {}" if stem.startswith("demo") else PREPARE
    get = "get it with: python " + command.format(shlex.quote(str(root.absolute())), stem)
    return ClassTexts(
        template=cfg.DATASET.TEMPLATE or template,
        is_own=bool(cfg.DATASET.TEMPLATE),
        descriptions=root / "descriptions" / f"{stem}.json",
        get_descriptions=get if name in DATASETS else "",
        dataset=name,
    )


def check_class_prompts(cfg: CfgNode, prompts: ClassPrompts, classnames: Sequence[str]) -> None:
    """``check_distinct`` for the classes of the run's data set."""
    name = cfg.DATASET.NAME
    is_imagenet = DATASETS.get(name, ("", ""))[0] == "imagenet"
    check_distinct(prompts, classnames, f'data set {name} below "{cfg.DATASET.ROOT}"', twins=is_imagenet)
