"""A small copy of the data sets' world: archives in the true layouts, on a server that can misbehave.

PYTEST_DONT_REWRITE: test modules import it before they name it as a plugin.
"""

import hashlib
import io
import itertools
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from datasets.preparation import imagenet, transfer
from datasets.preparation.sources import CLASSNAMES, File, Part, Source, load_sources
from tests.file_server import Server

WNIDS = [f"n{1440764 + 13 * number:08d}" for number in range(1000)]
NAMES = "".join(f"{wnid} thing {number}\n" for number, wnid in enumerate(WNIDS)).encode()


def picture(colour: int = 0) -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (colour % 256, 80, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def tar(content: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar file, compressed unless the mode says otherwise."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(content: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server; Google Drive and the list of ImageNet's validation classes are on it, too."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HEBA_DATA_MIRROR", raising=False)
    server = Server()
    labels = replace(imagenet.LABELS, sources=(server.url(path=f"imagenet/{imagenet.LABELS.name}"),))
    monkeypatch.setattr(imagenet, "LABELS", labels)
    monkeypatch.setattr(transfer, "DRIVE", server.url() + "/{}")
    yield server
    server.shutdown()
    server.server_close()


def failing(call: Callable[..., None], number: int, error: BaseException) -> Callable[..., None]:
    """The function itself, but for its call of that number (from 0), which raises."""
    numbers = itertools.count()

    def function(*args: object, **options: object) -> None:
        if next(numbers) == number:
            raise error
        call(*args, **options)

    return function


def split_of(images: dict[str, str]) -> dict[str, list]:
    """A split file's content: of the images (path: class) of each class 3 train, 2 val, the rest test."""
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    classes = list(dict.fromkeys(images.values()))
    seen = dict.fromkeys(classes, 0)
    for path, name in images.items():
        part = "train" if seen[name] < 3 else "val" if seen[name] < 5 else "test"
        split[part].append([path, classes.index(name), name])
        seen[name] += 1
    return split


def images_of(source: Source) -> dict[str, str]:
    """Six images of each of two classes as a split file of that data set names them: {path: class}."""
    patterns = {
        "Caltech101": {"accordion/image_{:04d}.jpg": "accordion", "airplanes/image_{:04d}.jpg": "airplane"},
        "OxfordPets": {"Abyssinian_{}.jpg": "abyssinian", "basset_hound_{}.jpg": "basset_hound"},
        "StanfordCars": {"cars_train/{:05d}.jpg": "2012 Car A", "cars_test/{:05d}.jpg": "1998 Car B"},
        "OxfordFlowers": {"image_{:05d}.jpg": "pink primrose", "image_1{:04d}.jpg": "sweet pea"},
        "Food101": {"apple_pie/{}.jpg": "apple_pie", "waffles/{}.jpg": "waffles"},
        "SUN397": {"a/abbey/sun_{}.jpg": "abbey", "a/bar/indoor/sun_{}.jpg": "indoor bar"},
        "DescribableTextures": {"banded/banded_{}.jpg": "banded", "wavy/wavy_{}.jpg": "wavy"},
        "EuroSAT": {"Forest/Forest_{}.jpg": "Forest", "River/River_{}.jpg": "River"},
        "UCF101": {
            "Apply_Eye_Makeup/v_ApplyEyeMakeup_g{}.jpg": "Apply_Eye_Makeup",
            "Yo_Yo/v_YoYo_g{}.jpg": "Yo_Yo",
        },
    }
    return {
        pattern.format(number): name
        for pattern, name in patterns[source.name].items()
        for number in range(1, 7)
    }


def archives_of(source: Source) -> dict[str, bytes]:
    """File name → content of everything that a data set's first sources deliver, in its true layout."""
    jpg = picture()
    if source.layout == "split":
        images = images_of(source)
        split = json.dumps(split_of(images)).encode()
        in_folder = {path: jpg for path in images}
    if source.name == "Caltech101":
        inner = tar({f"101_ObjectCategories/{path}": jpg for path in [*images, "BACKGROUND_Google/x.jpg"]})
        content = {
            "caltech-101.zip": zipped(
                {"caltech-101/101_ObjectCategories.tar.gz": inner, "__MACOSX/._caltech-101": b"x"}
            )
        }
    elif source.name == "OxfordPets":
        content = {
            "images.tar.gz": tar({f"images/{path}": jpg for path in images}),
            "annotations.tar.gz": tar({"annotations/trainval.txt": b"Abyssinian_1 1 1 1\n"}),
        }
    elif source.name == "StanfordCars":
        content = {
            f"{top}.tgz": tar({path: jpg for path in images if path.startswith(top)})
            for top in ("cars_train", "cars_test")
        }
        content["car_devkit.tgz"] = tar({"devkit/cars_meta.mat": b"mat"})
        content["cars_test_annos_withlabels.mat"] = b"MATLAB 5.0 MAT-file"
    elif source.name == "OxfordFlowers":
        content = {
            "102flowers.tgz": tar({f"jpg/{path}": jpg for path in images}),
            "imagelabels.mat": b"MATLAB 5.0 MAT-file",
            "cat_to_name.json": b"{}",
        }
    elif source.name == "Food101":
        members = {f"food-101/images/{path}": jpg for path in images}
        content = {"food-101.tar.gz": tar({**members, "food-101/meta/classes.txt": b"apple_pie\n"})}
    elif source.name == "SUN397":
        content = {
            "SUN397.tar.gz": tar({f"SUN397/{path}": jpg for path in images}),
            "Partitions.zip": zipped(
                {name: b"/a/abbey\n" for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt")}
            ),
        }
    elif source.name == "DescribableTextures":
        members = {f"dtd/images/{path}": jpg for path in images}
        extras = {"dtd/imdb/imdb.mat": b"mat", "dtd/labels/train1.txt": b"banded/banded_1.jpg\n"}
        content = {"dtd-r1.0.1.tar.gz": tar({**members, **extras})}
    elif source.name == "EuroSAT":
        content = {"EuroSAT.zip": zipped({f"2750/{path}": data for path, data in in_folder.items()})}
    elif source.name == "UCF101":
        content = {
            "UCF-101-midframes.zip": zipped({f"UCF-101-midframes/{path}": jpg for path in images}),
            "UCF101TrainTestSplits-RecognitionTask.zip": zipped({"ucfTrainTestlist/classInd.txt": b"1 A\n"}),
        }
    elif source.name == "FGVCAircraft":
        top = "fgvc-aircraft-2013b/data"
        lists = {"train": [1, 2, 3], "val": [4, 5], "test": [6]}
        members = {f"{top}/images/{n:07d}.jpg": jpg for numbers in lists.values() for n in numbers}
        for part, numbers in lists.items():
            lines = "".join(f"{n:07d} {('707-320', 'F-16A/B')[n % 2]}\n" for n in numbers)
            members[f"{top}/images_variant_{part}.txt"] = lines.encode()
        members[f"{top}/variants.txt"] = b"707-320\nF-16A/B\n"
        content = {"fgvc-aircraft-2013b.tar.gz": tar(members)}
    elif source.name == "ImageNet":
        inner = {f"{wnid}.tar": tar({f"{wnid}_{n}.JPEG": jpg for n in range(4)}, "w") for wnid in WNIDS[:3]}
        validation = {f"ILSVRC2012_val_{n:08d}.JPEG": jpg for n in range(1, 7)}
        labels = "".join(f"{WNIDS[n % 3]}\n" for n in range(6))
        content = {
            "ILSVRC2012_img_train.tar": tar(inner, "w"),
            "ILSVRC2012_img_val.tar": tar(validation, "w"),
            "imagenet_2012_validation_synset_labels.txt": labels.encode(),
        }
    else:
        top, names, pack = {
            "ImageNetV2": (
                "imagenetv2-matched-frequency-format-val",
                [str(number) for number in range(1000)],
                ("imagenetv2-matched-frequency.tar.gz", tar),
            ),
            "ImageNetSketch": ("sketch", WNIDS, ("ImageNet-Sketch.zip", zipped)),
            "ImageNetA": ("imagenet-a", WNIDS[5:8], ("imagenet-a.tar", lambda members: tar(members, "w"))),
            "ImageNetR": ("imagenet-r", WNIDS[5:8], ("imagenet-r.tar", lambda members: tar(members, "w"))),
        }[source.name]
        members = {
            f"{top}/{name}/{n}.jpg": jpg for name in names for n in range(2 if len(names) < 1000 else 1)
        }
        if source.name in ("ImageNetA", "ImageNetR"):
            members[f"{top}/README.txt"] = b"read me"
        content = {pack[0]: pack[1](members)}
    if source.split:
        content[source.split] = split
    elif source.layout != "aircraft":
        content[CLASSNAMES] = NAMES
    return content


SIZES = {  # classes, images of each split, in the small copies
    "FGVCAircraft": (2, {"train": 3, "val": 2, "test": 1}),
    "ImageNet": (3, {"train": 12, "val": 6}),
    "ImageNetV2": (1000, {"test": 1000}),
    "ImageNetSketch": (1000, {"test": 1000}),
    "ImageNetA": (3, {"test": 6}),
    "ImageNetR": (3, {"test": 6}),
}


def small(name: str, server: Server, behaviour: str = "good") -> Source:
    """A data set as the table has it, with counts, checksums and addresses of its small copy on the server.

    Alternatives that have no small copy (the zips of whole data sets) are left out.
    """
    source = next(source for source in load_sources() if source.name == name)
    content = archives_of(source)
    server.files.update({f"{source.folder}/{file}": data for file, data in content.items()})
    parts = []
    for part in source.parts:
        files = tuple(
            replace(
                file,
                sources=(server.url(behaviour, f"{source.folder}/{file.name}"),),
                md5=hashlib.md5(content[file.name]).hexdigest() if file.md5 else "",
            )
            for file in part.files
            if file.name in content
        )
        parts.append(Part(part.paths, files, part.required))
    classes, counts = SIZES.get(name, (2, {"train": 6, "val": 4, "test": 2}))
    digest = hashlib.sha256(content[source.split]).hexdigest()[:16] if source.split_digest else ""
    return replace(source, parts=tuple(parts), classes=classes, counts=counts, split_digest=digest)


def with_files(source: Source, path: str, *files: File) -> Source:
    """The data set with other alternatives for one of its parts."""
    parts = [replace(part, files=files) if path in part.paths else part for part in source.parts]
    return replace(source, parts=tuple(parts))


def tree(folder: Path) -> list[str]:
    """Everything below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
