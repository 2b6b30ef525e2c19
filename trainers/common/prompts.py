"""Prompts: hand-written templates, LLM descriptions of classes, and both as tokens."""

import json
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from yacs.config import CfgNode

from clip import clip
from clip.layout import PackedText, end_of_text, pack
from fileio.text import is_blank

if TYPE_CHECKING:
    from trainers.common.text_prefix import TextPrefix

logger = logging.getLogger(__name__)

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


@dataclass
class ClassPrompts:
    """The tokenised prompts of all classes, on the host.

    Attributes:
        tokens: ``(P, 77)`` token ids of all prompts, class after class.
        counts: ``(C,)`` number of prompts of each class, each at least 1.
        arrange: lays chosen ``(P', 77)`` tokens out for the text encoder: packed without padding, unless a
            method looks across tokens (then ``clip.layout.trim_to_longest`` with what it looks ahead).
        ahead: places that ``arrange`` keeps behind the texts.
        prefix: what the frozen blocks make of the prompts, while steps may start from it.
    """

    tokens: torch.Tensor
    counts: torch.Tensor
    arrange: Callable[[torch.Tensor], PackedText | torch.Tensor] = pack
    ahead: int = 0
    prefix: "TextPrefix | None" = None

    @classmethod
    def tokenize(cls, prompts: Sequence[Sequence[str]]) -> "ClassPrompts":
        """Tokenises the prompts of each class; a prompt over 77 tokens is cut, as the published code does."""
        tokens = clip.tokenize([prompt for group in prompts for prompt in group], truncate=True)
        return cls(tokens, torch.tensor([len(group) for group in prompts]))

    def for_classes(self, classnames: Sequence[str], template: str, default: str) -> "ClassPrompts":
        """The prompts of other classes, laid out as these.

        Args:
            classnames: their names.
            template: the prompt of each, with ``{}`` for the name; "": ``default``.
            default: what to take then; learned words go before it.
        """
        other = ClassPrompts.tokenize(template_prompts(classnames, [template or default]))
        return replace(other, arrange=self.arrange, ahead=self.ahead)

    def draw(self, classes: torch.Tensor) -> PackedText | torch.Tensor:
        """One random prompt for each of ``classes``, arranged."""
        counts = self.counts[classes]
        first = (self.counts.cumsum(0) - self.counts)[classes]
        chosen = first + torch.randint(2**40, (len(classes),)) % counts
        texts = self.arrange(self.tokens[chosen])
        if self.prefix is not None:
            self.prefix.locate(texts, chosen)
        return texts

    def passes(self, limit: int) -> tuple[torch.Tensor, ...]:
        """All prompts in passes, in order of length, of at most ``limit`` places or of one prompt."""
        lengths, order = (end_of_text(self.tokens) + 1).sort(stable=True)
        sizes = [0]
        for length in (lengths + self.ahead).clamp(max=self.tokens.shape[1]).tolist():
            if sizes[-1] and (sizes[-1] + 1) * length > limit:
                sizes.append(0)
            sizes[-1] += 1
        return order.split(sizes)


def readable(name: str) -> str:
    """A class name as it stands in a prompt: ``_`` is a space."""
    return name.replace("_", " ")


def check_distinct(prompts: ClassPrompts, classnames: Sequence[str], data: CfgNode | None = None) -> None:
    """Raises ValueError if a class has no name, or the prompts of another: only the first could be predicted.

    Prompts are compared as CLIP gets them, in lower case and cut at 77 tokens; learned words that each class
    has for itself (CSC) tell it apart. Two classes of one name are a warning for ImageNet and its variants,
    whose published names have such pairs (missile, sunglasses).

    Args:
        prompts: of the classes.
        classnames: their names.
        data: ``DATASET`` of the run that the names are from; None: they are given with ``--classes``.
    """
    where = f'data set {data.NAME} below "{data.ROOT}"' if data else "--classes"
    published = data is not None and data.NAME in DATASETS and DATASETS[data.NAME][0] == "imagenet"
    for name in classnames:
        if is_blank(readable(name)):
            raise ValueError(f'{where}: the class name "{name}" is empty; give the class a name')
    first: dict[tuple[bytes, ...], int] = {}
    for label, tokens in enumerate(prompts.tokens.split(prompts.counts.tolist())):
        other = first.setdefault(tuple(sorted(row.tobytes() for row in tokens.numpy())), label)
        if other == label:
            continue
        names = classnames[other], classnames[label]
        found = f'{where}: the prompts of classes "{names[0]}" and "{names[1]}" are the same to CLIP'
        if published and readable(names[0]).lower() == readable(names[1]).lower():
            logger.warning("%s, as published: the second can never be predicted", found)
            continue
        raise ValueError(
            f"{found}, which ignores upper case, extra spaces and what follows 77 tokens: the second can "
            "never be predicted; rename one, or shorten the template or the descriptions if they were cut"
        )


def template_prompts(classnames: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every template with every class name put in.

    Raises:
        ValueError: a template has no ``{}``.
    """
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(f'template "{template}" has no {{}} for the class name; put one in')
    return [[template.replace("{}", readable(name)) for template in templates] for name in classnames]


def dataset_template(cfg: CfgNode) -> str:
    """``DATASET.TEMPLATE``; if empty, CoOp's template of the data set, "a photo of a {}." for any other."""
    name = cfg.DATASET.NAME
    return cfg.DATASET.TEMPLATE or (DATASETS[name][1] if name in DATASETS else "a photo of a {}.")


def description_path(cfg: CfgNode, override: str = "") -> Path:
    """Where the descriptions lie: ``override``, or ``<data root>/descriptions/<dataset>.json``."""
    if override:
        return Path(override).expanduser()
    name = cfg.DATASET.NAME
    stem = DATASETS[name][0] if name in DATASETS else name.lower()
    return Path(cfg.DATASET.ROOT).expanduser() / "descriptions" / f"{stem}.json"


def described_prompts(
    classnames: Sequence[str], cfg: CfgNode, options: CfgNode, key: str, context: str | None, remedy: str
) -> list[list[str]]:
    """The prompts of HeBA, LwEIB and MMA++: descriptions, or templates where they are given.

    Args:
        classnames: class names of the data set.
        cfg: the run's; a data set's own ``DATASET.TEMPLATE`` goes before the place of descriptions.
        options: the method's ``DESCRIPTIONS``, and ``TEMPLATES`` if it has such.
        key: where the options stand, for messages.
        context: see ``description_prompts``.
        remedy: what to do instead when descriptions are missing, for the message.
    """
    templates = options.get("TEMPLATES", ())
    if cfg.DATASET.TEMPLATE and not options.DESCRIPTIONS:  # of a data set without descriptions
        templates = templates or (cfg.DATASET.TEMPLATE,)
    if templates:
        return template_prompts(classnames, templates)
    path = description_path(cfg, options.DESCRIPTIONS)
    get = get_descriptions(cfg, options.DESCRIPTIONS, f"{key}.DESCRIPTIONS")
    return description_prompts(classnames, path, context, get=get, remedy=remedy)


def get_descriptions(cfg: CfgNode, override: str, key: str) -> str:
    """How to get missing descriptions: the demo's are drawn, published ones fetched, others the user writes.

    Args:
        cfg: the run's.
        override: the file that the method's options name; "" for the data set's own.
        key: the method's option that names a file.
    """
    name = cfg.DATASET.NAME
    if override:
        return f"correct {key}, or write the file"
    if name not in DATASETS:
        return f"write the file, with every class of the data set in it, or name another with {key}"
    root = shlex.quote(str(Path(cfg.DATASET.ROOT).expanduser().absolute()))
    stem = DATASETS[name][0]
    if stem.startswith("demo"):
        return f"get it with: python demo/make_data.py --root {root} {stem}"
    return f"get it with: python -m datasets.prepare --root {root} descriptions {stem}"


def description_prompts(
    classnames: Sequence[str], path: Path, context: str | None, *, get: str = "write it", remedy: str = ""
) -> list[list[str]]:
    """``"<context> <class name>, <description>"`` for each description of each class (HeBA, LwEIB).

    Args:
        classnames: class names of the data set.
        path: JSON file ``{class name: [description, …]}``; names match in lower case with ``_`` as space.
        context: words before the class name, e.g. "a photo of a". None: the descriptions as they are (MMA++).
        get: how to get the file if it is missing, for the message.
        remedy: what to do instead when descriptions are missing, for the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not such a JSON, has a name twice, or lacks classes (all are named).
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'LLM descriptions "{path}" are missing: a JSON object {{"class name": ["sentence", …], …}}; '
            f"{get}{remedy}"
        )
    try:
        entries = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=tuple)  # of (key, value)
        if not isinstance(entries, tuple):
            raise ValueError(f"it holds a {type(entries).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f'"{path}" is not a JSON object {{class name: [sentence, …]}}: {error}') from error
    described: dict[str, list[str]] = {}
    names: dict[str, str] = {}  # as the file has them
    for name, texts in entries:
        key = readable(name).lower()
        if key in names:
            raise ValueError(
                f'"{path}": "{names[key]}" and "{name}" are the same class name; keep one of them'
            )
        names[key], described[key] = name, texts
    for name in classnames:
        texts = described.get(readable(name).lower(), [])
        if not isinstance(texts, list) or not all(
            isinstance(text, str) and not is_blank(text) for text in texts
        ):
            raise ValueError(f'"{path}": class {name} has {texts!r} instead of a list of sentences'[:400])
    wanted = [readable(name).lower() for name in classnames]
    missing = [name for name, key in zip(classnames, wanted, strict=True) if not described.get(key)]
    if missing:
        left = [key for key in names if key not in wanted]
        shown, rename = list(missing), ""
        for place, name in enumerate(missing[:20]):  # comparing all of ImageNet's takes a minute
            if near := get_close_matches(readable(name).lower(), left, n=1):
                shown[place] = f'{name} (it has "{names[near[0]]}")'
                rename = "; rename in the file what is the same class"
        raise ValueError(
            f'"{path}" describes no {", ".join(shown)}: {len(missing)} classes are missing{rename}{remedy}'
        )
    begins = ["" if context is None else f"{context} {readable(name)}, " for name in classnames]
    return [
        [begin + text for text in described[readable(name).lower()]]
        for begin, name in zip(begins, classnames, strict=True)
    ]
