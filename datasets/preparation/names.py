"""Class names: those of the loaders, and which names of a file of descriptions mean the same classes."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import yaml

from datasets.preparation.sources import Source

# One class spelt in two ways: British and American words, and words that data sets misspell.
SPELLINGS = {
    "aeroplane": "airplane",
    "grey": "gray",
    "harbour": "harbor",
    "centre": "center",
    "theatre": "theater",
    "neighbourhood": "neighborhood",
    "parlour": "parlor",
    "jewellery": "jewelry",
    "yoghurt": "yogurt",
    "doughnut": "donut",
    "chequered": "checkered",
    "spiralled": "spiraled",
    "lilly": "lily",  # Caltech101's water_lilly
    "barbeton": "barberton",  # OxfordFlowers' barbeton daisy
    "carrousel": "carousel",  # SUN397
    "kindergarden": "kindergarten",  # SUN397
    "procenium": "proscenium",  # SUN397
}
# CuPL's words for classes that the loaders call otherwise. CuPL took its names from CLIP's data/prompts.md,
# whose classes stand in the order of the data set's own folders (Caltech101) or labels (OxfordFlowers): the
# same place in the list is the same class.
RENAMINGS = {
    "caltech101": {
        # The folder Faces; "centered face" is Faces_easy, which CoOp leaves out. (LwEIB's sentences of face
        # are those of a centered face.)
        "off-center face": "face",
        "side of a car": "car side",
        "body of a cougar cat": "cougar body",
        "face of a cougar cat": "cougar face",
        "head of a crocodile": "crocodile head",
        "head of a flamingo": "flamingo head",
        "snoopy (cartoon beagle)": "snoopy",
        "yin and yang symbol": "yin yang",
    },
    "oxford_flowers": {
        "pink and yellow dahlia": "pink-yellow dahlia",  # label 59
        "air plant": "ball moss",  # label 92; the ball moss, Tillandsia recurvata, is an air plant
    },
}


def key(name: str) -> str:
    """A class name as the loaders compare it with a description's: lower case, ``_`` as space."""
    return name.replace("_", " ").lower()


def words(name: str) -> list[str]:
    """The words of a name: parted by spaces, hyphens, slashes, full stops and commas; no apostrophes."""
    return re.split(r"[\s/.,‐-―-]+", re.sub("['’]", "", key(name)).strip())


def joined(name: Iterable[str]) -> str:
    """Words written as one, but that two numbers stay two."""
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(name))


def spelt(word: str) -> str:
    """A word in one spelling, without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    for other, spelling in SPELLINGS.items():
        plain = plain.replace(other, spelling)
    return plain


def singular(word: str) -> str:
    """A word without the ending of a regular plural; words of three letters stay (Audi TTS is no plural)."""
    word = re.sub("(?<=ss|ch|sh)es$|(?<=[a-z]x)es$|(?<=[a-z]{3})(?<![sui])s$", "", word)
    return re.sub("ie$", "y", word)  # cookies, cherries


# Two names of one form are one class. Tried in this order; each rule forgives what those before it do.
RULES: dict[str, Callable[[str], str]] = {
    "but for punctuation and spaces": lambda name: joined(words(name)),
    "but for the spelling": lambda name: joined(map(spelt, words(name))),
    "but for the plural": lambda name: joined(singular(spelt(word)) for word in words(name)),
}


@cache
def _published() -> dict[str, list[str]]:
    return yaml.safe_load(Path(__file__).with_name("classnames.yaml").read_text(encoding="utf-8"))


def published_names(source: Source) -> list[str]:
    """The names of a data set's classes wherever its files are; none where they are not known."""
    if source.layout == "imagenet":
        try:
            from open_clip import IMAGENET_CLASSNAMES as names
        except ImportError:
            names = []
    else:
        names = _published().get(source.config, [])
    return list(names) if len(names) == source.classes else []


def by_key(names: Iterable[str]) -> dict[str, str]:
    """Names by how they are compared.

    Raises:
        ValueError: two are the same.
    """
    found: dict[str, str] = {}
    for name in names:
        if key(name) in found:
            raise ValueError(f'"{found[key(name)]}" and "{name}" are the same class name; keep one of them')
        found[key(name)] = name
    return found


def match(names: Iterable[str], classes: Iterable[str], source: Source) -> tuple[dict[str, str], list[str]]:
    """Finds for each class the name that a file of descriptions has for it.

    A name that the loaders take for the class goes first, then the rules, then the data set's renamings.

    Args:
        names: those of the file.
        classes: those of the data set; two may be the same.
        source: the data set.

    Returns:
        Name of the file → class, where they differ for the loaders; and how each of these was matched.

    Raises:
        ValueError: names are the same, or classes have none, or it is not clear which; all are named.
    """
    there, wanted = by_key(names), {key(name): name for name in classes}
    found = {name: name for name in wanted if name in there}  # key of a class → key of the file's name
    how, unclear = {}, {}
    for rule, form in RULES.items():
        alike = defaultdict(lambda: ([], []))
        for side, keys in enumerate((wanted, there)):
            for name in keys:
                alike[form(name)][side].append(name)
        for ours, theirs in alike.values():
            lacking, left = [one for one in ours if one not in found], set(theirs) - set(found.values())
            if not lacking or not left:
                continue
            if len(ours) == len(theirs) == 1:
                found[ours[0]], how[ours[0]] = theirs[0], f"the same {rule}"
            else:
                unclear |= dict.fromkeys(lacking, [there[one] for one in theirs])
    for theirs, ours in RENAMINGS.get(source.config, {}).items():
        if ours in wanted and ours not in found and theirs in there:
            found[ours], how[ours] = theirs, "CuPL's other name of it"
    if missing := [one for one in wanted if one not in found]:
        also = [
            f"{wanted[one]} may be {' or '.join(map(repr, unclear[one]))}"
            for one in missing
            if one in unclear
        ]
        listed = ", ".join(wanted[one] for one in missing)
        raise ValueError("; ".join([f"describes no {listed} ({len(missing)} classes)", *also]))
    notes = [f'"{there[found[one]]}" describes {wanted[one]}: {rule}' for one, rule in how.items()]
    return {there[found[one]]: wanted[one] for one in how}, notes
