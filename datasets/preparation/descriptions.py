"""The LLM descriptions of the classes: fetched, read as data, made one JSON file a data set."""

import ast
import json
import logging
from collections.abc import Callable
from pathlib import Path

from datasets.preparation.check import at_home, listed, read_classnames
from datasets.preparation.layout import clean, workspace
from datasets.preparation.names import by_key, match, published_names
from datasets.preparation.sources import CLASSNAMES, File, Source
from datasets.preparation.transfer import obtain, with_mirror
from fileio import write_text
from fileio.errors import Damaged, Unavailable, one_line
from fileio.text import is_blank

logger = logging.getLogger(__name__)
FOLDER = "descriptions"
MAX_SIZE = 20 << 20
NAMES = {"imagenet": 998}  # where two classes share a name there are fewer names than classes
GITHUB = "https://raw.githubusercontent.com/"
# One Python file a data set with one dictionary: {class name: [sentence, …]}, 20 a class. MMApp, by the same
# authors, has the same folder.
LWEIB = (
    GITHUB + "ZjjConan/VLM-LwEIB/588853c38a794a6a7bce57967b9834e0d45512b2/trainers/gpt3_prompts/{}.py",
    GITHUB + "ZjjConan/VLM-LwEIB/HEAD/trainers/gpt3_prompts/{}.py",
    GITHUB + "ZjjConan/VLM-MMApp/ea85d694cadf09752244752d05c9124967c7d20e/trainers/gpt3_prompts/{}.py",
)
CUPL = GITHUB + "sarahpratt/CuPL/719619c829792ff8f37298266e941b7f077c7f5c/"
CUPL_FILES = {
    "imagenet": "imagenet_prompts/CuPL_image_prompts.json",
    "caltech101": "all_prompts/full_prompts/cal_prompts_full.json",
    "oxford_pets": "all_prompts/full_prompts/pets_prompts_full.json",
    "stanford_cars": "all_prompts/full_prompts/cars_prompts_full.json",
    "oxford_flowers": "all_prompts/full_prompts/flower_prompts_full.json",
    "food101": "all_prompts/full_prompts/food_prompts_full.json",
    "fgvc_aircraft": "all_prompts/full_prompts/airplane_prompts_full.json",
    "sun397": "all_prompts/full_prompts/sun_prompts_full.json",
    "dtd": "all_prompts/full_prompts/texture_prompts_full.json",
    "ucf101": "all_prompts/full_prompts/ucf_prompts_full.json",
}


def described(sources: list[Source]) -> list[Source]:
    """The data sets that have descriptions of their own: ImageNet's serve for its variants."""
    return [source for source in sources if source.layout != "folders"]


def prepare_descriptions(source: Source, root: Path, *, origin: str = "lweib", mirror: str = "") -> Path:
    """Writes ``<root>/descriptions/<dataset>.json``, unless it is there already.

    Args:
        source: the data set.
        root: the data root.
        origin: ``lweib``, the sentences that LwEIB and HeBA train on, or ``cupl``, CuPL's own.
        mirror: address that is tried first, as ``<mirror>/descriptions/<file name>``.

    Raises:
        Unavailable: no source delivers a file that describes all classes; says why for each.
        ValueError: the file that is there leaves classes without a description; all are named.
        OSError: another process works there, or the folder cannot be written.
    """
    root = root.expanduser().absolute()
    target = root / FOLDER / f"{source.config}.json"
    classes = class_names(source, root) or published_names(source)
    if target.is_file():
        lines = read_json(target)
        try:
            require_names(lines, classes, source)
        except ValueError as error:
            raise ValueError(f"{target} {error}; delete it to fetch it again") from error
        logger.info("%s is there: %s", target, summary(lines))
        return target
    suffix, sources = addresses(source, origin)
    file = File(f"{source.config}{suffix}", with_mirror(sources, mirror, f"{FOLDER}/{source.config}{suffix}"))
    with workspace(target.parent) as work:
        try:
            lines = fetch(file, source, origin, work, classes)
            write_text(target, json.dumps(lines, indent=1, ensure_ascii=False))
        finally:
            clean(work)
    compared = "compared with the published class names" if classes else "not compared with the classes"
    compared = "" if class_names(source, root) else f"; {compared}, {source.config} is not there yet"
    logger.info("%s: %s%s", target, summary(lines), compared)
    return target


def is_described(source: Source, root: Path) -> bool:
    """Whether a data set's descriptions are there, can be read, and have each class under its name."""
    try:
        lines = read_json(root / FOLDER / f"{source.config}.json")
        require_names(lines, class_names(source, root) or published_names(source), source)
    except (OSError, ValueError):
        return False
    return True


def fetch(file: File, source: Source, origin: str, work: Path, classes: list[str]) -> dict[str, list[str]]:
    """What the file from the first source that delivers descriptions of all classes says.

    Raises:
        Unavailable: none does; says why for each.
    """
    failures = []
    for address in file.sources:
        try:
            path = obtain(file, address, work)
            lines = read_python(path) if file.name.endswith(".py") else read_json(path)
            lines, notes = adopt(renamed(lines, source, origin), classes, source)
        except (Unavailable, ValueError) as error:
            failures.append(f"{address}: {one_line(error)}")
            continue
        for note in notes:
            logger.info("%s: %s", source.config, note)
        return lines
    raise Unavailable(
        f"descriptions of {source.name} could not be fetched: {'; '.join(failures)}. "
        "docs/DESCRIPTIONS.md says how to make the file by hand"
    )


def addresses(source: Source, origin: str) -> tuple[str, tuple[str, ...]]:
    """Suffix and addresses of a data set's file at ``lweib`` or ``cupl``.

    Raises:
        Unavailable: CuPL has none.
    """
    if origin == "lweib":
        return ".py", tuple(address.format(source.config) for address in LWEIB)
    if source.config not in CUPL_FILES:
        raise Unavailable(f"CuPL has no descriptions of {source.name}; take --descriptions-from lweib")
    return ".json", (CUPL + CUPL_FILES[source.config],)


def read_python(path: Path) -> dict[str, list[str]]:
    """The dictionary that a Python file assigns; nothing in the file is executed.

    Raises:
        Damaged: it holds anything but one literal dictionary of descriptions.
    """
    text = _text(path)
    try:
        nodes = ast.parse(text).body
        if nodes and isinstance(nodes[0], ast.Expr) and isinstance(nodes[0].value, ast.Constant):
            del nodes[0]  # what the file says of itself
        for node in nodes:
            if not (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)):
                raise Damaged(f"{path.name}: line {node.lineno} does not assign a dictionary")
        found = [ast.literal_eval(node.value) for node in nodes]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Damaged(f"{path.name} holds no plain dictionary: {one_line(error)[:200]}") from error
    if len(found) != 1:
        raise Damaged(f"{path.name} assigns {len(found)} dictionaries instead of one")
    return checked(tuple(found[0].items()), path)


def read_json(path: Path) -> dict[str, list[str]]:
    """The descriptions of a JSON file.

    Raises:
        Damaged: it holds something else.
    """
    try:
        return checked(json.loads(_text(path), object_pairs_hook=tuple), path)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} is no JSON: {one_line(error)}") from error


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_SIZE:
        raise Damaged(f"{path.name} has {path.stat().st_size:,} bytes, too many for descriptions")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Damaged(f"{path.name} is no text: {error}") from error


def checked(entries: object, path: Path) -> dict[str, list[str]]:
    """The (key, value) pairs ``entries`` as {class name: [sentence, …]}.

    Raises:
        Damaged: they are something else, or two keys are one class name.
    """
    if not isinstance(entries, tuple) or not entries:
        raise Damaged(f"{path.name} holds no {{class name: [sentence, …]}}")
    for name, sentences in entries:
        good = isinstance(name, str) and isinstance(sentences, list) and sentences
        if not good or not all(isinstance(text, str) and not is_blank(text) for text in sentences):
            raise Damaged(f"{path.name}: class {name!r} has no list of sentences")
    try:
        by_key(name for name, _ in entries)
    except ValueError as error:
        raise Damaged(f"{path.name}: {error}") from error
    return dict(entries)


def renamed(lines: dict[str, list[str]], source: Source, origin: str) -> dict[str, list[str]]:
    """CuPL's class names as CoOp's loaders have them: a car's year first, a scene's kind before its name."""

    def car(name: str) -> str:
        model, _, year = name.rpartition(" ")
        return f"{year} {model}" if year.isdigit() else name

    def scene(name: str) -> str:
        place, _, kind = name.rstrip(")").partition(" (")
        return f"{kind} {place}".strip()

    rules: dict[str, Callable[[str], str]] = {"stanford_cars": car, "sun397": scene}
    if origin != "cupl" or source.config not in rules:
        return lines
    new = [rules[source.config](name) for name in lines]
    by_key(new)
    turned = [(old, name) for old, name in zip(lines, new, strict=True) if old != name]
    if turned:
        old, name = turned[0]
        logger.info('%s: %d names in CoOp\'s order, as "%s" → %s', source.config, len(turned), old, name)
    return dict(zip(new, lines.values(), strict=True))


def class_names(source: Source, root: Path) -> list[str]:
    """Names of the classes as the loader has them; none where the data set is not there."""
    folder = root / source.folder
    if source.layout == "imagenet":
        path = folder / CLASSNAMES
        return list(read_classnames(path).values()) if path.is_file() else []
    images = listed(source, at_home(folder))
    return list(dict.fromkeys(name for items in images.values() for _, name in items))


def adopt(
    lines: dict[str, list[str]], classes: list[str], source: Source
) -> tuple[dict[str, list[str]], list[str]]:
    """The descriptions with each class under a name that the loaders find, and which names were others.

    Raises:
        ValueError: classes have no description: names them, or counts where no names are known.
    """
    if not classes:
        expected = NAMES.get(source.config, source.classes)
        if len(lines) < expected:
            raise ValueError(f"describes {len(lines)} classes instead of {expected}")
        return lines, []
    new, notes = match(lines, classes, source)
    return {new.get(name, name): sentences for name, sentences in lines.items()}, notes


def require_names(lines: dict[str, list[str]], classes: list[str], source: Source) -> None:
    """Raises ValueError unless the loaders find a description of each class, as they compare names."""
    _, notes = adopt(lines, classes, source)
    if notes:
        raise ValueError(f"has names that the loader does not know: {'; '.join(notes)}")


def summary(lines: dict[str, list[str]]) -> str:
    """How many classes and sentences."""
    counts = {len(sentences) for sentences in lines.values()}
    each = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{len(lines):,} classes, {each} sentences each"
