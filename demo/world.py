"""The demo's world in words: the attributes of a picture, its captions, and the classes of the data sets.

A picture is six numbers, one an attribute (`ATTRIBUTES`); `render.py` draws it. Symbols: N pictures.
"""

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("solid", "striped", "dotted", "checkered")
SHAPES = (
    *("circle", "square", "triangle", "star", "cross", "ring"),
    *("heart", "moon", "diamond", "hexagon", "arrow", "oval"),
)
SIZES = ("small", "large")
COUNTS = ("single", "pair of", "trio of")
BACKGROUNDS = ("on grass", "on sand", "in the snow", "at night", "in fog", "on water")

ATTRIBUTES = {
    "colour": COLOURS,
    "texture": TEXTURES,
    "shape": SHAPES,
    "size": SIZES,
    "count": COUNTS,
    "background": BACKGROUNDS,
}
COLOUR, TEXTURE, SHAPE, SIZE, COUNT, BACKGROUND = range(6)  # columns of a table of pictures (N, 6)

LEADS = ("a photo of ", "a photo of ", "a photo of ", "a picture of ", "an image of ", "")
# How often a caption's first part names an attribute, in the order of ATTRIBUTES; a count above one always.
NAMED = (0.7, 0.7, 1.0, 0.3, 0.2, 0.35)
SECOND_PART = 0.5  # how often a caption goes on after a comma, as HeBA's prompts do

# One picture's attributes, and which of them its caption names.
Attributes = Sequence[int]
Mentions = list[bool]
# What the pictures of a class have in common; None where they differ.
Template = tuple[int | None, ...]


def few_shot_classes(count: int = 40, seed: int = 0) -> list[tuple[int, int, int]]:
    """Draw the (colour, texture, shape) triples of the few-shot data set, base half first.

    No two classes share colour and shape, and each half shows every colour, texture and shape.
    """
    rng = random.Random(seed)
    half = count // 2
    while True:
        columns = [[i % len(values) for i in range(count)] for values in (COLOURS, TEXTURES, SHAPES)]
        for column in columns:
            rng.shuffle(column)
        colours, _, shapes = columns
        complete = all(set(column[:half]) == set(column[half:]) == set(column) for column in columns)
        if complete and len(set(zip(colours, shapes, strict=True))) == count:
            return list(zip(*columns, strict=True))


# Held out of the pretraining altogether: no picture of it shows one of these, so no caption names one.
CLASSES = few_shot_classes()


def class_name(triple: tuple[int, int, int]) -> str:
    """Name a few-shot class, e.g. "checkered red arrow"."""
    return template_name(few_shot_template(triple), (COLOUR, TEXTURE, SHAPE))


def sample_pictures(
    count: int, rng: np.random.Generator, held_out: Sequence[tuple[int, int, int]] = CLASSES
) -> np.ndarray:
    """Draw pictures for the pretraining.

    Args:
        count: number of pictures.
        rng: where the numbers come from.
        held_out: (colour, texture, shape) triples that must not occur.

    Returns:
        int64 table (count, 6) in the order of `ATTRIBUTES`.
    """
    forbidden = np.array([triple_code(np.array(triple)) for triple in held_out], dtype=np.int64)
    table = np.empty((0, len(ATTRIBUTES)), dtype=np.int64)
    while len(table) < count:
        drawn = np.stack([rng.integers(len(values), size=count) for values in ATTRIBUTES.values()], axis=1)
        drawn[rng.random(count) < 0.4, SIZE] = SIZES.index("large")
        drawn[rng.random(count) < 0.7, COUNT] = COUNTS.index("single")
        table = np.concatenate([table, drawn[~np.isin(triple_code(drawn), forbidden)]])
    return table[:count]


def triple_code(table: np.ndarray) -> np.ndarray:
    """Number the (colour, texture, shape) triple of each picture: (…, 6) or (…, 3) to (…)."""
    colour, texture, shape = (table[..., column] for column in (COLOUR, TEXTURE, SHAPE))
    return (colour * len(TEXTURES) + texture) * len(SHAPES) + shape


def caption(picture: Attributes, rng: random.Random) -> tuple[str, Mentions]:
    """Describe a picture in random words, e.g. "a photo of a red star, it is large and striped."

    Returns:
        The caption, and for each attribute whether it is named; the shape always is.
    """
    named = [rng.random() < chance for chance in NAMED]
    named[COUNT] |= picture[COUNT] > 0
    text = rng.choice(LEADS) + noun_phrase(picture, named, rng)
    if rng.random() < SECOND_PART:
        more, also = _second_part(picture, rng)
        text += ", " + more
        named = [one or other for one, other in zip(named, also, strict=True)]
    return text + rng.choice((".", ".", "")), named


def noun_phrase(picture: Attributes, named: Mentions, rng: random.Random | None = None) -> str:
    """Say the named attributes, e.g. "a large red star on grass".

    With `rng` a quarter of the phrases say "a" before a vowel too: the prompt "a photo of a {}." does.
    """
    words = _words(picture, named)
    loose = rng is not None and rng.random() < 0.25
    article = "an" if words[0][0] in "ao" and not loose else "a"
    return " ".join([article, *words])


def _words(picture: Attributes, named: Mentions) -> list[str]:
    """The named attributes in the order in which English puts them, without an article."""
    values = list(ATTRIBUTES.values())
    words = [values[i][picture[i]] for i in (COUNT, SIZE, TEXTURE, COLOUR, SHAPE, BACKGROUND) if named[i]]
    if picture[COUNT] > 0 and named[SHAPE]:
        shape = SHAPES[picture[SHAPE]]
        words[words.index(shape)] = plural(shape)
    return words


def plural(shape: str) -> str:
    """Form the plural of a shape's name."""
    return shape + ("es" if shape.endswith("s") else "s")


def _second_part(picture: Attributes, rng: random.Random) -> tuple[str, Mentions]:
    """Describe a picture once more: a sentence about "it", or another noun phrase."""
    named = [False] * len(ATTRIBUTES)
    if picture[COUNT] > 0 or rng.random() < 0.5:
        for i in range(len(ATTRIBUTES)):
            named[i] = i == SHAPE or rng.random() < 0.4
        named[COUNT] |= picture[COUNT] > 0
        return noun_phrase(picture, named, rng), named
    chosen = rng.sample([SIZE, TEXTURE, COLOUR, BACKGROUND], rng.choice((1, 2)))
    return it_is(picture, chosen), [i in chosen for i in range(len(ATTRIBUTES))]


def it_is(picture: Attributes, chosen: Sequence[int]) -> str:
    """Say attributes of a single object in a sentence, e.g. "it is large and on grass"."""
    values = list(ATTRIBUTES.values())
    return "it is " + " and ".join(values[i][picture[i]] for i in chosen)


def descriptions(template: Template, count: int = 20) -> list[str]:
    """Write sentences about a class in the place of an LLM's, with words of this world alone.

    Args:
        template: what the pictures of the class have in common.
        count: number of sentences, all different.

    The random draw is fixed by the class. Sentences that are true of all its pictures come first; where there
    are too few, others make up the rest of a picture.
    """
    rng = random.Random("-".join(map(str, template)))
    found = dict.fromkeys(_true_sentences(template))
    if len(found) > count:
        return rng.sample(list(found), count)
    while len(found) < count:
        one = [
            rng.randrange(len(values)) if value is None else value
            for value, values in zip(template, ATTRIBUTES.values(), strict=True)
        ]
        found[_second_part(one, rng)[0] + "."] = None
    return list(found)


def _true_sentences(template: Template) -> list[str]:
    """All sentences about what the pictures of a class have in common."""
    picture = [value or 0 for value in template]
    free = [i for i, value in enumerate(template) if value is not None and i not in (COUNT, SHAPE)]
    subsets = [chosen for size in range(len(free) + 1) for chosen in combinations(free, size)]
    several = picture[COUNT] > 0
    sentences = [f"{it_is(picture, chosen)}." for chosen in subsets if chosen and not several]
    for chosen in subsets:
        for counted in sorted({several, True}):
            named = [i in chosen or i == SHAPE or (i == COUNT and counted) for i in range(len(ATTRIBUTES))]
            phrase = noun_phrase(picture, named)
            sentences += [f"{lead}{phrase}." for lead in dict.fromkeys(LEADS)]
    return sentences


def vocabulary() -> list[str]:
    """List every word and sign that a caption can hold, sorted."""
    texts = [*LEADS, *map(plural, SHAPES), "it is and a an , ."]
    texts += [value for values in ATTRIBUTES.values() for value in values]
    return sorted({word for text in texts for word in text.split()})


def few_shot_template(triple: tuple[int, int, int]) -> Template:
    """A few-shot class's pictures: a single object of this colour, texture and shape."""
    return (*triple, None, 0, None)


def template_name(template: Template, named: Sequence[int]) -> str:
    """Name a class by the named attributes of its template, e.g. "pair of stars" or "star on grass"."""
    picture = [value or 0 for value in template]
    mentions = [i in named or (i == COUNT and picture[i] > 0) for i in range(len(ATTRIBUTES))]
    return " ".join(_words(picture, mentions))


def pictures_of(template: Template, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pictures of a class: table (count, 6). What is open varies; four in five are large."""
    table = np.stack([rng.integers(len(values), size=count) for values in ATTRIBUTES.values()], axis=1)
    table[:, SIZE] = rng.random(count) < 0.8
    for column, value in enumerate(template):
        if value is not None:
            table[:, column] = value
    return table
