"""Pretrains the demo's CLIP on random captions of the plain style, and writes weights and recipe.

    python demo/pretrain.py --out some/folder    # the defaults made demo/demo-vit-8-quickgelu.pt

The budget is a number of steps, not minutes, so that the same seed, torch and machine give the same weights.
The few-shot classes (`world.CLASSES`) never occur. Symbols: B pictures, L tokens, V words of the world.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":  # before torch is imported, which takes seconds: Ctrl-C ends that with a line, too
    import command_line

    command_line.run("demo.pretrain")

import argparse
import hashlib
import json
import math
import platform
import random
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from clip.clip import PIXEL_MEAN, PIXEL_STD, tokenize
from clip.layout import trim_to_longest
from clip.model import CLIP
from command_line import natural, one_line_errors, positive
from demo import world
from demo.render import SIDE, STYLES, render
from fileio import atomic_write, file_digest, write_text

WEIGHTS = "demo-vit-8-quickgelu.pt"  # clip.weights reads the activation off the name
POSITIONS = 32  # of CLIP's 77 that captions and prompts of the demo can reach, and that are stored
AT_ONCE = 128  # pictures drawn in one call
MATCHED = -1e4  # logit of a picture and another's caption that is true of it too

SHAPE = {
    "embed_dim": 128,
    "image_resolution": SIDE,
    "vision_layers": 4,
    "vision_width": 128,
    "vision_patch_size": 8,
    "context_length": POSITIONS,
    "transformer_width": 128,
    "transformer_heads": 2,
    "transformer_layers": 3,
}


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    seed: int = 1
    steps: int = 3000
    batch: int = 128  # B
    pool: int = 64_000  # pictures, drawn once
    lr: float = 1e-3
    warmup: int = 150  # steps
    weight_decay: float = 0.1  # of matrices
    betas: tuple[float, float] = (0.9, 0.98)
    clip_gradient: float = 1.0


def pool_of_pictures(recipe: Recipe) -> np.ndarray:
    """Draw the attributes (pool, 6) of all pictures that the pretraining shows."""
    return world.sample_pictures(recipe.pool, np.random.default_rng([recipe.seed, 0]))


def world_tokens() -> Tensor:
    """List the ids (V,) of all tokens of the world's words, ascending; padding, start and end among them."""
    return tokenize(" ".join(world.vocabulary())).unique()


def compact(tokens: Tensor, known: Tensor) -> Tensor:
    """Renumber token ids by their place in `known`; the end of a text keeps the highest number."""
    return torch.searchsorted(known, tokens.contiguous())


def pretrain(recipe: Recipe, watch: int = 0) -> CLIP:
    """Train a CLIP with a vocabulary of V tokens by the symmetric contrastive loss.

    Args:
        recipe: what to do.
        watch: steps between two looks at the zero-shot accuracies; 0 for none.
    """
    torch.manual_seed(recipe.seed)
    known = world_tokens()
    model = CLIP(vocab_size=len(known), **SHAPE)
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe), betas=recipe.betas, eps=1e-6)
    pictures = pool_of_pictures(recipe)
    images = draw_all(pictures, np.random.default_rng([recipe.seed, 1]))
    rng, words = np.random.default_rng([recipe.seed, 2]), random.Random(recipe.seed)
    order = np.empty(0, dtype=np.int64)
    bar = tqdm(range(recipe.steps), desc="pretraining", unit="step", mininterval=2)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * _schedule(step, recipe)
        if len(order) < recipe.batch:
            order = rng.permutation(len(pictures))
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        told = [world.caption(picture, words) for picture in pictures[chosen].tolist()]
        captions, named = zip(*told, strict=True)
        tokens = compact(trim_to_longest(tokenize(captions, POSITIONS)), known)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(normalised(augmented(images[chosen], rng)))
            text = model.encode_text(tokens)
        also_true = true_of(torch.from_numpy(pictures[chosen]), torch.tensor(named))
        loss = contrastive_loss(image.float(), text.float(), model.logit_scale.exp(), also_true)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_gradient)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)
        if watch and (step + 1) % watch == 0:
            tqdm.write(f"step {step + 1}: {json.dumps(zero_shot(model))}")
    return model.eval()


def _parameter_groups(model: CLIP, recipe: Recipe) -> list[dict]:
    """Decay matrices, but neither embeddings nor vectors."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.dim() >= 2 and "embedding" not in name]
    others = [p for name, p in named if p.dim() < 2 or "embedding" in name]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _schedule(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


def draw_all(pictures: np.ndarray, rng: np.random.Generator, style: str = "plain") -> Tensor:
    """Draw many pictures, uint8 (N, 3, S, S)."""
    starts = range(0, len(pictures), AT_ONCE)
    bar = tqdm(starts, desc="drawing", disable=len(starts) < 50)
    return torch.cat([render(pictures[i : i + AT_ONCE], STYLES[style], rng) for i in bar])


def augmented(images: Tensor, rng: np.random.Generator, reach: int = 3) -> Tensor:
    """Shift and flip a batch as a whole, and vary each image's colours; 0 to 255 in and out."""
    size = (len(images), 3, 1, 1)
    left, top = rng.integers(2 * reach + 1, size=2)
    images = F.pad(images.float(), (reach,) * 4, mode="replicate")[..., top : top + SIDE, left : left + SIDE]
    images = images.flip(-1) if rng.random() < 0.5 else images
    factor, shift = (torch.from_numpy(rng.standard_normal(size, dtype=np.float32)) for _ in range(2))
    return images * (1 + 0.1 * factor) + 10 * shift


def normalised(images: Tensor) -> Tensor:
    """Turn 0 to 255 into CLIP's normalised colours."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (images.float() / 255 - mean) / std


def true_of(pictures: Tensor, named: Tensor) -> Tensor:
    """Tell which captions are true of which pictures of a batch.

    Args:
        pictures: attributes (B, 6).
        named: bool (B, 6), the attributes that each picture's caption names.

    Returns:
        bool (B, B): picture i has all that caption j names.
    """
    agree = pictures[:, None] == pictures[None]
    return (agree | ~named[None]).all(-1)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, also_true: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy, without the pairs (B, B) that are no real negatives."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    logits = logits.masked_fill(also_true & ~torch.eye(len(logits), dtype=torch.bool), MATCHED)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


@torch.no_grad()
@torch.autocast("cpu", torch.bfloat16)
def zero_shot(model: CLIP, images_a_class: int = 20) -> dict[str, float]:
    """Accuracies in percent on freshly drawn pictures of the few-shot classes: {"warm base": …}."""
    known, rng = world_tokens(), np.random.default_rng(99)
    accuracies = {}
    model.eval()
    for style in STYLES:
        for half, classes in (("base", world.CLASSES[:20]), ("new", world.CLASSES[20:])):
            tokens = tokenize([f"a photo of a {world.class_name(triple)}." for triple in classes], POSITIONS)
            text = F.normalize(model.encode_text(compact(tokens, known)), dim=-1)
            templates = map(world.few_shot_template, classes)
            table = np.concatenate([world.pictures_of(one, images_a_class, rng) for one in templates])
            image = model.encode_image(normalised(draw_all(table, rng, style)))
            label = torch.arange(len(classes)).repeat_interleave(images_a_class)
            hits = (image.float() @ text.float().t()).argmax(1) == label
            accuracies[f"{style} {half}"] = round(100 * hits.double().mean().item(), 1)
    model.train()
    return accuracies


def stored(model: CLIP) -> dict[str, Tensor]:
    """The tensors of the weight file: float16, and the ids of the stored rows of the vocabulary."""
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    return state | {"token_ids": world_tokens().int()}


def tensor_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, whatever file they come from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


@one_line_errors("the same command starts anew", "lower --batch or --pool")
def main(argv: list[str] | None = None) -> int:
    """Pretrain, and write the weights and `recipe.json` into a folder; returns the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights and the recipe")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=natural, default=Recipe.steps)
    parser.add_argument("--batch", type=positive, default=Recipe.batch, help="pictures a step")
    parser.add_argument("--pool", type=int, default=Recipe.pool, help="pictures in all")
    parser.add_argument(
        "--watch", type=natural, default=1000, help="steps between zero-shot accuracies, 0: none"
    )
    args = parser.parse_args(argv)
    if args.batch > args.pool:
        parser.error(f"--batch {args.batch} is more than --pool {args.pool}: enlarge the pool")
    for name in (WEIGHTS, "recipe.json"):
        if (args.out / name).exists():
            raise ValueError(f'"{args.out / name}" is there already: delete it, or choose another --out')
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # more threads change the last digits, and fight for a shared machine
    recipe = Recipe(seed=args.seed, steps=args.steps, batch=args.batch, pool=args.pool)
    start = time.time()
    model = pretrain(recipe, args.watch)
    minutes = (time.time() - start) / 60
    accuracies = zero_shot(model) if args.watch else {}
    state = stored(model)
    with atomic_write(args.out / WEIGHTS) as file:
        torch.save(state, file)
    record = {
        "weights": WEIGHTS,
        "sha256": file_digest(args.out / WEIGHTS),
        "tensors_sha256": tensor_digest(state),
        "recipe": asdict(recipe),
        "shape": SHAPE,
        "held_out": [world.class_name(triple) for triple in world.CLASSES],
        "zero_shot": accuracies,
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, one thread",
    }
    write_text(args.out / "recipe.json", json.dumps(record, indent=1) + "\n")
    print(json.dumps(accuracies), f"{minutes:.1f} min, {args.out / WEIGHTS}")
    return 0
