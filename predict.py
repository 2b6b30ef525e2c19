"""Classifies pictures with a trained run, or zero-shot with any class names.

    python predict.py --model-dir output/mine photo.jpg folder/of/pictures
    python predict.py photo.jpg --classes "tabby cat" dog                    zero-shot CLIP
    python predict.py --model-dir output/mine photo.jpg --classes cat dog    trained adapters, other classes

In Python:

    from predict import Predictor
    predictor = Predictor("output/mine")
    print(predictor(["photo.jpg"])[0].ranked(3))

Exit status: 0 all pictures were classified, 1 some could not be read, 2 a mistake in the call.
"""

import sys

if __name__ == "__main__":  # before torch is imported, which takes seconds: Ctrl-C ends that with a line, too
    import command_line

    command_line.run("predict")

import argparse
import csv
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from adapt.adapter_file import FILE_NAME
from adapt.method import build_model
from adapt.model import CustomCLIP, load_clip
from adapt.prompts import check_distinct
from command_line import one_line, one_line_errors, positive, say
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from datasets.pictures import picture_suffixes
from reporting.text import UNSEEN, visible
from runner import ROOT
from runner.arguments import parse_args as parse_run
from runner.config import setup_cfg
from runner.process import set_up_process
from runner.trained import load_adapter
from trainers.clip_trainer import device_of
from trainers.zsclip import ZeroshotCLIP

SOME_UNREADABLE = 1
BATCH = 64  # pictures in one pass of the image encoder


@dataclass(frozen=True)
class Prediction:
    """What was found on one picture.

    Attributes:
        path: of the picture.
        probabilities: of each class by its name, in the order of the classes; their sum is 1.
    """

    path: str
    probabilities: list[tuple[str, float]]

    def ranked(self, number: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, best first."""
        return sorted(self.probabilities, key=lambda pair: -pair[1])[:number]


class Predictor:
    """A trained run's model, or zero-shot CLIP, that takes paths of pictures.

    Pictures are read and resized as the run's test pictures were.

    Args:
        model_dir: a run's folder or its ``adapter.safetensors``; empty: zero-shot CLIP.
        classes: names of the classes, instead of the run's.
        template: prompt of each of ``classes``; default: that of the run's data set, "a photo of a {}.".
        backbone: name or path of CLIP's weights, if they are not where they were in training; of zero-shot
            CLIP, default ViT-B/16.
        quick_gelu: activation of zero-shot CLIP's weights, where their file does not tell.
        upright: turn pictures as their EXIF orientation says; None: as in training, and yes zero-shot.

    Raises:
        FileNotFoundError: there is no trained run.
        ValueError: neither a run nor two classes are given, or the run's file does not fit.
    """

    def __init__(
        self,
        model_dir: str | Path = "",
        *,
        classes: Sequence[str] = (),
        template: str = "",
        backbone: str = "",
        quick_gelu: bool | None = None,
        upright: bool | None = None,
    ) -> None:
        if template and not classes:
            raise ValueError(f'--template "{template}" goes with --classes; a trained run has its prompts')
        if model_dir:
            self.model, cfg, self.classes = trained_model(Path(model_dir), backbone)
        elif classes:
            self.model, cfg = zero_shot_model(backbone, quick_gelu)
        else:
            raise ValueError("nothing says which classes there are; give --model-dir, --classes or both")
        method = self.model.method
        if classes:
            self.classes = list(classes)
            self.model.prompts = self.model.prompts.for_classes(
                self.classes, template, default=method.template()
            )
            check_distinct(self.model.prompts, self.classes)
            check_several(self.classes)
        self.cfg = cfg.clone()
        if upright is not None:
            self.cfg.defrost()
            self.cfg.INPUT.EXIF_TRANSPOSE = upright
        self.transform = build_transform(self.cfg, is_train=False)
        self.device = device_of(self.cfg)
        self.precision = method.precision
        self.model.to(self.device).eval()
        self._kept = ExitStack()  # the class features, for the life of this object
        with torch.no_grad(), self.precision.autocast(self.device):
            self._kept.enter_context(self.model.keep_text_features())

    def __call__(
        self, paths: Sequence[str | Path], on_error: Callable[[OSError], None] | None = None
    ) -> list[Prediction]:
        """Classifies pictures.

        Args:
            paths: of the pictures.
            on_error: takes the error of each picture that cannot be read, which is left out; None: it is
                raised.

        Raises:
            OSError: a picture cannot be read; the message names it.
            FloatingPointError: as of ``probabilities``.
        """
        wrapper = DatasetWrapper(self.cfg, [Datum(impath=str(path)) for path in paths], self.transform)

        def read(index: int) -> tuple[str, torch.Tensor] | OSError:
            path = str(paths[index])
            try:
                return path, wrapper[index]["img"]
            except OSError as error:
                return error

        predictions = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(paths), BATCH):
                batch = []
                for found in pool.map(read, range(start, min(start + BATCH, len(paths)))):
                    if not isinstance(found, OSError):
                        batch.append(found)
                    elif on_error is None:
                        raise found
                    else:
                        on_error(found)
                if batch:
                    names, images = zip(*batch, strict=True)
                    rows = self.probabilities(torch.stack(images)).tolist()
                    predictions += [
                        Prediction(name, list(zip(self.classes, row, strict=True)))
                        for name, row in zip(names, rows, strict=True)
                    ]
        return predictions

    @torch.no_grad()
    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` transformed images → ``(B, C)`` softmax of the logits, on the CPU.

        Raises:
            FloatingPointError: logits are infinite or NaN.
        """
        with self.precision.autocast(self.device):
            logits = self.model(images.to(self.device)).float().cpu()
        if bad := int((~logits.isfinite().all(dim=1)).sum()):
            raise FloatingPointError(
                f"the scores of {bad} of {len(logits)} pictures are infinite or NaN; check the weights of "
                f'backbone "{self.cfg.MODEL.BACKBONE.NAME}", and those of the trained run if one was given'
            )
        return logits.softmax(dim=-1)


def check_several(classes: Sequence[str]) -> None:
    """Raises ValueError if there is one class alone, which every picture would be."""
    if len(classes) == 1:
        hint = "; separate the names by spaces, not by commas" * ("," in classes[0])
        raise ValueError(
            f'--classes is "{classes[0]}" alone, so every answer would be that; give two names or more{hint}'
        )


def trained_model(model_dir: Path, backbone: str) -> tuple[CustomCLIP, CfgNode, list[str]]:
    """The model of a run, its configuration, and its classes.

    Raises:
        FileNotFoundError: the folder holds no exported adapters.
    """
    path = model_dir
    if model_dir.is_dir():
        found = [*model_dir.glob(FILE_NAME), *model_dir.glob(f"*/{FILE_NAME}")]
        if not found:
            raise FileNotFoundError(
                f'--model-dir "{model_dir}" holds no {FILE_NAME}, which a finished training run leaves; for '
                "zero-shot CLIP leave --model-dir out and give --classes"
            )
        path = found[0]
    model, cfg, adapter = load_adapter(path, backbone)
    return model, cfg, adapter.classnames


def zero_shot_model(backbone: str, quick_gelu: bool | None) -> tuple[CustomCLIP, CfgNode]:
    """CLIP as configured for own pictures; its prompts are still those of no class."""
    flags = [
        "--trainer",
        ZeroshotCLIP.__name__,
        "--config-file",
        str(ROOT / "configs/trainers/ZeroshotCLIP/vit_b16.yaml"),
    ]
    flags += [
        "--dataset-config-file",
        str(ROOT / "configs/datasets/image_folder.yaml"),
        "--backbone",
        backbone,
    ]
    if quick_gelu is not None:
        flags += ["MODEL.BACKBONE.QUICK_GELU", str(quick_gelu)]
    cfg = setup_cfg(parse_run(flags))
    clip_model = load_clip(cfg.MODEL.BACKBONE.NAME, quick_gelu)
    options = cfg.TRAINER.ZeroshotCLIP
    return build_model(ZeroshotCLIP.method, options, (), clip_model, prompts=[[""]]), cfg


def find_pictures(words: Sequence[str]) -> list[str]:
    """The given pictures, and all pictures in given folders, at any depth, sorted; no hidden ones.

    Raises:
        FileNotFoundError: there is no such file or folder, or no picture in a folder.
    """
    suffixes, found = picture_suffixes(), []
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = []
            for place, below, files in os.walk(path):
                below[:] = [name for name in below if not name.startswith(".")]
                inside += [Path(place) / name for name in files if not name.startswith(".")]
            inside = [file for file in inside if file.suffix.lower() in suffixes and file.is_file()]
            if not inside:
                raise FileNotFoundError(f'folder "{path}" holds no pictures')
            found += map(str, sorted(inside))
        elif path.is_file():
            found.append(word)
        else:
            raise FileNotFoundError(f'no picture or folder "{path}"')
    return found


def show(predictions: Sequence[Prediction], topk: int, style: str) -> None:
    """Prints the predictions as text, JSON or CSV; control characters in names are written out."""
    if style == "json":
        content = [
            {
                "path": found.path,
                "predictions": [{"class": name, "probability": p} for name, p in found.ranked(topk)],
            }
            for found in predictions
        ]
        utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
        text = json.dumps(content, indent=1, ensure_ascii=not utf8)
        print(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}" if found[0] != "\n" else "\n", text))
    elif style == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["path", "rank", "class", "probability"])
        for found in predictions:
            for rank, (name, probability) in enumerate(found.ranked(topk), start=1):
                writer.writerow([visible(found.path), rank, visible(name), f"{probability:.6f}"])
    else:
        for found in predictions:
            ranked = ", ".join(f"{name} {100 * probability:.1f}%" for name, probability in found.ranked(topk))
            print(visible(f"{found.path}: {ranked}"))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; ``--classes`` takes all words after it, so pictures stand before it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="+", help="pictures, or folders of them")
    parser.add_argument(
        "--model-dir", default="", help="folder of a finished run, or its adapter.safetensors"
    )
    parser.add_argument(
        "--classes", nargs="+", default=[], metavar="NAME", help="class names, after the pictures"
    )
    parser.add_argument("--template", default="", help='prompt of --classes, e.g. "an X-ray of a {}."')
    parser.add_argument("--backbone", default="", help="CLIP model: a name (ViT-B/16) or a path to weights")
    parser.add_argument(
        "--quick-gelu",
        action=argparse.BooleanOptionalAction,
        help="activation of the zero-shot weights, where their file does not tell",
    )
    parser.add_argument("--topk", type=positive, default=3, help="classes to show for each picture")
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text")
    parser.add_argument(
        "--upright",
        action=argparse.BooleanOptionalAction,
        help="turn pictures as their EXIF orientation says (default: as the run did in training)",
    )
    return parser.parse_args(argv)


@one_line_errors(memory="classify fewer classes, use a smaller backbone, or close other programs")
def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)
    set_up_process()
    unreadable: list[OSError] = []
    paths = find_pictures(args.pictures)
    predictor = Predictor(
        args.model_dir,
        classes=args.classes,
        template=args.template,
        backbone=args.backbone,
        quick_gelu=args.quick_gelu,
        upright=args.upright,
    )
    predictions = predictor(paths, unreadable.append)
    for error in unreadable:
        say(f"error: {visible(one_line(error))}")
    show(predictions, args.topk, args.format)
    return SOME_UNREADABLE if unreadable else 0
