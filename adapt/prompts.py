"""Prompts: hand-written templates, LLM descriptions of classes, and both as tokens."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from clip import clip
from clip.layout import PackedText, end_of_text, pack, trim_to_longest
from fileio.text import is_blank

logger = logging.getLogger(__name__)

TEMPLATE = "a photo of a {}."  # of any data set that has no other
TOKENS_AT_ONCE = 8192  # tokens in one batch of the text encoder at evaluation: 67 MB a hidden layer


@dataclass(frozen=True)
class ClassTexts:
    """What a data set brings to the prompts of its classes.

    Attributes:
        template: the prompt of a class, with ``{}`` for its name.
        is_own: whether the user gave the template (``DATASET.TEMPLATE``).
        descriptions: where the descriptions of its classes are looked for.
        get_descriptions: how to get them, for the message where they are missing; "": the user writes them.
        dataset: registry name of the data set.
    """

    template: str = TEMPLATE
    is_own: bool = False
    descriptions: Path | None = None
    get_descriptions: str = ""
    dataset: str = ""


NO_DATA_SET = ClassTexts()


@dataclass
class ClassPrompts:
    """The tokenised prompts of all classes, on the host.

    Attributes:
        tokens: ``(P, 77)`` token ids of all prompts, class after class.
        counts: ``(C,)`` number of prompts of each class, each at least 1.
        lookahead: how many tokens behind an end of text can change its feature. None: a method works on each
            token alone, and texts are packed without padding.
        texts: the prompts of each class as they were tokenised; empty if tokens alone were given.
        lengths: ``(P,)`` tokens of each prompt, its end of text included.
    """

    tokens: torch.Tensor
    counts: torch.Tensor
    lookahead: int | None = None
    texts: Sequence[Sequence[str]] = ()
    lengths: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = end_of_text(self.tokens) + 1
        self._starts = self.lengths.cumsum(0) - self.lengths  # (P,) first token among those of all prompts

    @classmethod
    def tokenize(cls, prompts: Sequence[Sequence[str]]) -> "ClassPrompts":
        """Tokenises the prompts of each class; a prompt over 77 tokens is cut, as the published code does."""
        tokens = clip.tokenize([prompt for group in prompts for prompt in group], truncate=True)
        return cls(tokens, torch.tensor([len(group) for group in prompts]), texts=prompts)

    def for_classes(self, classnames: Sequence[str], template: str, default: str) -> "ClassPrompts":
        """The prompts of other classes, laid out as these.

        Args:
            classnames: their names.
            template: the prompt of each, with ``{}`` for the name; "": ``default``.
            default: what to take then; learned words go before it.
        """
        others = ClassPrompts.tokenize(template_prompts(classnames, [template or default]))
        return replace(others, lookahead=self.lookahead)

    def layout(self, tokens: torch.Tensor) -> PackedText | torch.Tensor:
        """``(P', 77)`` tokens as the text encoder takes them: packed, or ``(P', L)`` if it looks ahead."""
        return pack(tokens) if self.lookahead is None else trim_to_longest(tokens, self.lookahead)

    def take(self, chosen: torch.Tensor) -> PackedText | torch.Tensor:
        """``chosen`` prompts ``(P',)``, laid out; packed ones know their rows among the tokens of all."""
        texts = self.layout(self.tokens[chosen])
        if isinstance(texts, PackedText):
            texts.rows = self._starts[chosen].repeat_interleave(self.lengths[chosen]) + texts.positions
        return texts

    def draw(self, classes: torch.Tensor) -> PackedText | torch.Tensor:
        """One random prompt for each of ``classes``, laid out."""
        counts = self.counts[classes]
        first = (self.counts.cumsum(0) - self.counts)[classes]
        return self.take(first + torch.randint(2**40, (len(classes),)) % counts)

    def batches(self, limit: int) -> tuple[torch.Tensor, ...]:
        """All prompts in batches, in order of length, of at most ``limit`` places or of one prompt."""
        lengths, order = self.lengths.sort(stable=True)
        sizes = [0]
        for length in (lengths + (self.lookahead or 0)).clamp(max=self.tokens.shape[1]).tolist():
            if sizes[-1] and (sizes[-1] + 1) * length > limit:
                sizes.append(0)
            sizes[-1] += 1
        return order.split(sizes)


def prompts_digest(prompts: Sequence[Sequence[str]]) -> str:
    """SHA-256 of the prompts of each class, class after class."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def readable(name: str) -> str:
    """A class name as it stands in a prompt: ``_`` is a space."""
    return name.replace("_", " ")


def check_distinct(
    prompts: ClassPrompts, classnames: Sequence[str], where: str = "--classes", twins: bool = False
) -> None:
    """Raises ValueError if a class has no name, or the prompts of another: only the first could be predicted.

    Prompts are compared as CLIP gets them, in lower case and cut at 77 tokens; learned words that each class
    has for itself (CSC) tell it apart.

    Args:
        prompts: of the classes.
        classnames: their names.
        where: the names are from, for messages.
        twins: two classes of one name are a warning: ImageNet and its variants were published with such pairs
            (missile, sunglasses).
    """
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
        if twins and readable(names[0]).lower() == readable(names[1]).lower():
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


def described_prompts(
    classnames: Sequence[str],
    texts: ClassTexts,
    options: Any,
    key: str,
    context: str | None,
    remedy: str = "",
) -> list[list[str]]:
    """Returns the prompts of HeBA, LwEIB and MMA++: descriptions, or templates where they are given.

    Args:
        classnames: class names of the data set.
        texts: the data set's; its own template goes before the place of its descriptions.
        options: the method's ``DESCRIPTIONS``, and ``TEMPLATES`` if it has such.
        key: where the options stand, for messages.
        context: see ``description_prompts``.
        remedy: what to do instead when descriptions are missing, for the message; "": set ``TEMPLATES``.
    """
    remedy = remedy or f"; or set {key}.TEMPLATES \"('a photo of a {{}}.',)\" to train without descriptions"
    templates = getattr(options, "TEMPLATES", ())
    if texts.is_own and not options.DESCRIPTIONS:  # of a data set without descriptions
        templates = templates or (texts.template,)
    if templates:
        return template_prompts(classnames, templates)
    if options.DESCRIPTIONS:
        path = Path(options.DESCRIPTIONS).expanduser()
        get = f"correct {key}.DESCRIPTIONS, or write the file"
    elif texts.descriptions is not None:
        path = texts.descriptions
        own = (
            f"write the file, with every class of the data set in it, or name another with {key}.DESCRIPTIONS"
        )
        get = texts.get_descriptions or own
    else:
        raise FileNotFoundError(f"no file of LLM descriptions is named: set {key}.DESCRIPTIONS{remedy}")
    return description_prompts(classnames, path, context, get=get, remedy=remedy)


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
