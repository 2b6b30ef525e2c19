"""What holds for every method: a matrix over all trainers that have configs/trainers/<Trainer>/base2new.yaml.

A new method is tested here as soon as its file and its configuration are there. ``FLAGS`` needs a line only
if the configuration does not fit a CLIP of 4 blocks.
"""

import copy
import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

import train
from adapt.learned_words import LearnedWords
from adapt.method import build_model
from adapt.model import CustomCLIP, adapter_weights, freeze_backbone, load_clip
from adapt.prompts import ClassPrompts, ClassTexts, template_prompts
from clip.model import CLIP
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed
from predict import Predictor
from runner.config import extend_cfg, import_all, setup_cfg
from runner.trained import load_adapter
from tests.conftest import ROOT, TOY_CLASSES, train_words
from trainers.clip_trainer import ClipTrainer

import_all("trainers")
CONFIGS = ROOT / "configs" / "trainers"
METHODS = sorted(path.parent.name for path in CONFIGS.glob("*/base2new.yaml"))
UNTRAINED = {"ZeroshotCLIP", "ZeroshotCLIP2"}
EPOCHS = 2

# Options, below the method's own node, where the published configuration needs more than 4 blocks.
FLAGS = {
    "HeBA": {"ADAPTER_END": -1},
    "LwEIB": {"ADAPTER_END": -1},
    "MultiModalAdapter": {"ADAPTER_START": 3, "ADAPTER_END": 4},
    "MultiModalAdapterPP": {"ADAPTER_START": 3, "ADAPTER_END": 4},
    "RMAdapter": {"ADAPTER_START": 3, "ADAPTER_END": 4},
    "MaPLe": {"PROMPT_DEPTH": 3},
}
# Weights that have a gradient of exactly zero by the method's own mathematics: only the class token leaves
# the last block, and the visual adapters of both pass it by.
DEAD = {"HeBA": ("visual_adapter.4.mlp_conv.",), "LwEIB": ("visual_adapter.4.mlp_conv.",)}


def node(method: str) -> str:
    """Where a method's options stand."""
    return f"TRAINER.{TRAINER_REGISTRY.get(method).options_name or method}"


@dataclass
class House:
    """Builds trainers of one method on the toy data as train.py does."""

    method: str
    data: Path
    clip: Path

    def trainer(self, output: Path, *opts: object, seed: int = 1, **options: object) -> ClipTrainer:
        """A trainer on the base classes, in float32 unless told otherwise.

        Args:
            output: the run's folder.
            opts: further ``KEY VALUE`` pairs.
            seed: of the run.
            options: further options of the method's own.
        """
        options = {"PREC": "fp32"} | FLAGS.get(self.method, {}) | options
        pairs = [
            *("MODEL.BACKBONE.NAME", self.clip, "MODEL.BACKBONE.QUICK_GELU", True),
            *("DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 3),
            *("DATASET.NUM_SHOTS", 2, "DATASET.SUBSAMPLE_CLASSES", "base"),
            *("OPTIM.MAX_EPOCH", EPOCHS, "TRAIN.PRINT_FREQ", 1, "TRAIN.RESUME_SECONDS", 0, "USE_CUDA", False),
            *(word for key, value in options.items() for word in (f"{node(self.method)}.{key}", value)),
            *opts,
        ]
        words = map(str, ("--seed", seed, *pairs))
        cfg = setup_cfg(train.parse_args(train_words(self.data, output, *words, trainer=self.method)))
        set_random_seed(seed)
        return build_trainer(cfg)


@dataclass
class Training:
    """An uninterrupted training run and what was seen of it."""

    trainer: ClipTrainer
    initial: dict[str, torch.Tensor]  # every weight before the first step
    reached: dict[str, bool] = field(default_factory=dict)  # weights with a gradient; whether one was not 0

    @property
    def folder(self) -> Path:
        return Path(self.trainer.output_dir)


@pytest.fixture(scope="module", params=METHODS)
def house(request: pytest.FixtureRequest, toy_data: Path, tiny_clip_path: Path) -> Iterator[House]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the quickest for a model of this size
    yield House(request.param, toy_data, tiny_clip_path)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(house: House, tmp_path_factory: pytest.TempPathFactory) -> Training:
    trainer = house.trainer(tmp_path_factory.mktemp(house.method))
    weights = dict(trainer.model.named_parameters())
    training = Training(trainer, {name: weight.detach().clone() for name, weight in weights.items()})
    for name, weight in weights.items():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(watch(training.reached, name))
    trainer.train()
    return training


def watch(reached: dict[str, bool], name: str) -> Callable[[nn.Parameter], None]:
    def hook(weight: nn.Parameter) -> None:
        reached[name] = reached.get(name, False) or bool(weight.grad.any())

    return hook


def images(number: int = 4) -> torch.Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def logits(trainer: ClipTrainer, model: CustomCLIP | None = None) -> torch.Tensor:
    """Logits of four random images as an evaluation computes them."""
    model = (trainer.model if model is None else model).eval()
    with torch.no_grad(), trainer.precision.autocast(torch.device("cpu")):
        return model(images())


def state(trainer: ClipTrainer) -> dict[str, torch.Tensor]:
    return trainer.model.adapter_learner.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain_clip(trainer: ClipTrainer) -> CustomCLIP:
    """CLIP without the method, with the same prompts; learned words are the words that they start from."""
    backbone = trainer.cfg.MODEL.BACKBONE
    clip_model = trainer.precision.store(load_clip(backbone.NAME, backbone.QUICK_GELU))
    prompts = replace(ClassPrompts.tokenize(trainer.class_prompts), lookahead=trainer.model.prompts.lookahead)
    plain = CustomCLIP(clip_model, prompts).eval()
    freeze_backbone(plain)  # torch 2.4 convolves with frozen weights in another order
    return plain


def test_no_trainer_escapes_the_matrix() -> None:
    ours = {
        name
        for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
        and issubclass(TRAINER_REGISTRY.get(name), ClipTrainer)
    }
    assert ours - UNTRAINED == set(METHODS)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a model needs neither trainer nor data nor optimiser")


def test_a_model_is_built_and_runs_without_a_trainer(
    house: House, tiny_clip_path: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options are any object with the attributes."""
    options = SimpleNamespace(**setup_options(house.method) | {"PREC": "fp32"} | FLAGS.get(house.method, {}))
    trainer = TRAINER_REGISTRY.get(house.method)
    for name in ("dassl.engine.TrainerX.__init__", "dassl.data.DataManager.__init__"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("trainers.clip_trainer.build_optimizer", refuse)
    texts = ClassTexts(descriptions=toy_data / "descriptions" / "caltech101.json")
    backbone = load_clip(tiny_clip_path, quick_gelu=True)
    model = build_model(trainer.method, options, TOY_CLASSES, backbone, texts=texts).eval()
    assert model(images()).shape == (4, len(TOY_CLASSES))
    model.method.before_training(model)
    batch = model.method.batch(model, images(), torch.tensor([3, 0, 3, 5]), torch.device("cpu"))
    loss, _ = model.method.loss(model, batch)
    loss.backward()
    assert all(weight.grad is not None for weight in adapter_weights(model).values())


def test_switched_off_a_method_is_clip(house: House, tmp_path: Path) -> None:
    """Adapters: bit for bit. Prompt learners: with the words they start from, as far as these say it all."""
    options = house.trainer(tmp_path).options
    off = {key: 0 for key in options if re.fullmatch("ADAPTER_(TRAIN_|TEST_)?SCALE(_BASE)?", key)}
    trainer = house.trainer(tmp_path, **(off or {key: 1 for key in options if key == "PROMPT_DEPTH"}))
    model, plain = trainer.model.eval(), plain_clip(trainer)
    if off:
        assert torch.equal(logits(trainer), logits(trainer, plain))
        return
    learner = model.adapter_learner
    with torch.no_grad():
        if meta_net := getattr(learner, "meta_net", None):  # CoCoOp: what an image adds to the words
            for weight in meta_net.linear2.parameters():
                weight.zero_()
        if house.method == "MaPLe":  # its image tokens look at prompts from the first block on
            torch.testing.assert_close(model.text_features(), plain.text_features(), rtol=1e-5, atol=1e-6)
            assert not torch.allclose(logits(trainer), logits(trainer, plain), atol=1e-4)
        else:
            torch.testing.assert_close(logits(trainer), logits(trainer, plain), rtol=1e-5, atol=1e-5)


def test_only_the_methods_weights_learn_and_all_of_them_do(house: House, trained: Training) -> None:
    model = trained.trainer.model
    dead = tuple(f"adapter_learner.{prefix}" for prefix in DEAD.get(house.method, ()))
    own = {weight: name for name, weight in adapter_weights(model).items()}
    for name, weight in model.named_parameters():
        assert weight.requires_grad == (weight in own) == (name in trained.reached), name
        if weight not in own:
            assert weight.grad is None, name
            assert torch.equal(weight, trained.initial[name]), name
        else:
            assert weight.dtype == torch.float32, name
            assert trained.reached[name] == (not own[weight].startswith(dead or "none")), name
            if trained.reached[name]:
                assert not torch.equal(weight, trained.initial[name]), name
    assert trained.trainer.num_trainable == sum(weight.numel() for weight in own) > 0


def test_the_learning_rate_changes_with_the_epoch_alone(trained: Training) -> None:
    """The last step of an epoch is logged with the next one's."""
    lines = (trained.folder / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    steps = len(rates) // EPOCHS
    first, second, last = rates[0], rates[steps], rates[-1]
    assert rates == [first] * (steps - 1) + [second] * steps + [last]
    assert first != second != last
    assert trained.trainer.cfg.OPTIM.LR in (first, second)  # a warm-up has the first epoch


def test_training_changes_the_logits(house: House, trained: Training, tmp_path: Path) -> None:
    assert not torch.equal(logits(trained.trainer), logits(house.trainer(tmp_path)))


def test_saved_and_loaded_the_logits_are_the_same(house: House, trained: Training, tmp_path: Path) -> None:
    fresh = house.trainer(tmp_path, seed=2)
    assert not same(state(fresh), state(trained.trainer))
    fresh.load_model(str(trained.folder), epoch=EPOCHS)
    assert torch.equal(logits(fresh), logits(trained.trainer))


def test_other_classes_can_be_named_and_change_nothing_for_the_old_ones(
    house: House, trained: Training, tmp_path: Path
) -> None:
    everything = house.trainer(tmp_path, "DATASET.SUBSAMPLE_CLASSES", "all")
    everything.load_model(str(trained.folder), epoch=EPOCHS)
    found = logits(everything)
    assert found.shape == (4, 6)
    torch.testing.assert_close(found[:, :3], logits(trained.trainer), rtol=1e-5, atol=1e-4)


def test_the_exported_file_gives_the_same_logits(trained: Training) -> None:
    path = trained.folder / trained.trainer.method.folder / "adapter.safetensors"
    model, _, adapter = load_adapter(path)
    assert adapter.epoch == EPOCHS
    assert not model.training
    assert torch.equal(logits(trained.trainer, model), logits(trained.trainer))


class Cut(Exception):
    """Stands for a killed process."""


def test_a_cut_run_ends_like_the_whole_one(house: House, trained: Training, tmp_path: Path) -> None:
    cut = house.trainer(tmp_path)
    step = cut.forward_backward

    def until_the_second_epoch(batch: dict) -> dict:
        if cut.epoch == 1 and cut.batch_idx == 1:
            raise Cut
        return step(batch)

    cut.forward_backward = until_the_second_epoch
    with pytest.raises(Cut):
        cut.train()
    resumed = house.trainer(tmp_path)
    torch.rand(7)
    resumed.train()
    assert resumed.start_epoch == 1
    assert same(state(resumed), state(trained.trainer))


def test_same_seed_same_run_and_another_seed_another(house: House, trained: Training, tmp_path: Path) -> None:
    twin = house.trainer(tmp_path / "twin")
    twin.train()
    assert same(state(twin), state(trained.trainer))
    other = house.trainer(tmp_path / "other", seed=0)
    assert other.cfg.SEED == 0
    other.train()
    assert not same(state(other), state(trained.trainer))


def test_texts_without_padding_are_full_texts_or_refused(house: House, trained: Training) -> None:
    model = trained.trainer.model.eval()
    prompts = model.prompts
    laid_out = prompts.layout(prompts.tokens)
    if isinstance(laid_out, torch.Tensor):  # places behind the texts are known to whoever counts them
        assert laid_out.shape[1] == int(prompts.tokens.argmax(-1).max()) + 1 + prompts.lookahead
    full = replace(prompts, lookahead=77)
    everyone = torch.arange(3)
    try:
        with torch.no_grad():
            own = model(images()), drawn(model, everyone)
            model.prompts = full
            torch.testing.assert_close(own, (model(images()), drawn(model, everyone)), rtol=1e-5, atol=1e-4)
            expected = model.text_features()
            model.prompts = replace(prompts, lookahead=None)
            try:
                packed = model.text_features()
            except ValueError as refusal:
                assert "pack" in str(refusal)  # noqa: PT017  # equal features are as good
            else:
                torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    finally:
        model.prompts = prompts


def drawn(model: CustomCLIP, classes: torch.Tensor) -> torch.Tensor:
    """Logits as a training step computes them; the same prompt of each class at every call."""
    torch.manual_seed(0)
    return model(images(), model.prompts.draw(classes))


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
def test_half_precisions_train_as_fp32_does(
    house: House, trained: Training, tmp_path: Path, precision: str
) -> None:
    """The weights move by nearly the same steps; so small a loss scale overflows in none of them."""
    half = house.trainer(tmp_path, PREC=precision)
    half.scaler = torch.amp.GradScaler("cpu", init_scale=4, enabled=half.scaler.is_enabled())
    half.train()

    def moved(trainer: ClipTrainer) -> torch.Tensor:
        learned = {n: w.detach() for n, w in trainer.model.named_parameters() if w.requires_grad}
        assert {weight.dtype for weight in learned.values()} == {torch.float32}
        return torch.cat([(weight - trained.initial[name]).flatten() for name, weight in learned.items()])

    steps = moved(trained.trainer)
    least, most = (0.005, 0.2) if precision == "bf16" else (0, 0.05)
    most = 0.7 if house.method == "RMAdapter" else most  # its L1 loss has the sign of what is rounded
    assert least < (moved(half) - steps).norm() / steps.norm() < most
    found, expected = logits(half), logits(trained.trainer)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.2  # logits of scale 14


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_gives_the_same_logits_and_learns_by_itself(trained: Training, how: Callable) -> None:
    before, other = logits(trained.trainer), how(trained.trainer.model)
    assert torch.equal(logits(trained.trainer, other), before)
    with torch.no_grad():
        for weight in adapter_weights(other).values():
            weight.mul_(1.5)
    assert not torch.equal(logits(trained.trainer, other), before)
    assert torch.equal(logits(trained.trainer), before)


def test_evaluating_twice_gives_the_same_and_leaves_the_model(trained: Training) -> None:
    trainer = trained.trainer
    before, weights = logits(trainer), {name: tensor.clone() for name, tensor in state(trainer).items()}
    results = [(trainer.test(), trainer.results["correct"]) for _ in range(2)]
    assert results[0] == results[1]
    assert trainer.results["total"] == 9
    assert list(trainer.model.method.evaluations(trainer.model, novel=True))
    assert torch.equal(logits(trainer), before)
    assert same(state(trainer), weights)


def documented() -> dict[str, int]:
    """Trained weights by method in the first table of docs/METHODS.md."""
    table = (ROOT / "docs" / "METHODS.md").read_text("utf-8").split("\n\n|", 1)[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): int(row[1].replace(",", "")) for row in rows}


def test_the_table_of_methods_names_all_of_them() -> None:
    assert set(documented()) - {"ZeroshotCLIP"} == set(METHODS)


def configuration(method: str, path: Path) -> CfgNode:
    """What a run with this file alone would be given."""
    return setup_cfg(train.parse_args(["--trainer", method, "--config-file", str(path)]))


@pytest.mark.parametrize("method", METHODS)
def test_each_protocol_has_a_configuration_and_the_demos_are_alike(method: str) -> None:
    files = sorted((CONFIGS / method).glob("*.yaml"))
    assert {path.stem for path in files} >= {"base2new", "x2d", "demo"}
    backbones = {path.stem: configuration(method, path).MODEL.BACKBONE.NAME for path in files}
    demo, ours = (configuration(name, CONFIGS / name / "demo.yaml") for name in (method, "HeBA"))
    assert demo.INPUT == ours.INPUT
    assert backbones.pop("demo") == ours.MODEL.BACKBONE.NAME
    assert set(backbones.values()) == {"ViT-B/16"}


@pytest.mark.parametrize("method", METHODS)
def test_the_documented_number_of_weights_is_that_at_vit_b16(method: str) -> None:
    cfg = configuration(method, CONFIGS / method / "base2new.yaml")
    found, prompts = TRAINER_REGISTRY.get(method).method_of(cfg), ClassPrompts.tokenize([["a"]])
    with torch.device("meta"):  # no weights
        learner = found.attach_adapters(CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12), prompts)
    assert sum(weight.numel() for weight in learner.parameters()) == documented()[method]


@pytest.mark.parametrize(
    "method", ["HeBA", "LwEIB", "MaPLe", "MultiModalAdapter", "MultiModalAdapterPP", "RMAdapter"]
)
def test_a_resnet_is_refused_before_it_is_downloaded_where_a_vit_is_adapted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: object) -> None:
        raise AssertionError("the file was fetched")

    monkeypatch.setattr("clip.clip._download", download)
    cls = TRAINER_REGISTRY.get(method)
    cfg = configuration(method, CONFIGS / method / "base2new.yaml")
    with torch.device("meta"):
        resnet = CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12)
    with pytest.raises(ValueError, match="image encoder is a ResNet"):  # whose name does not tell
        cls.method_of(cfg).attach_adapters(resnet, ClassPrompts.tokenize([["a"]]))
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = "RN50"
    with pytest.raises(ValueError, match="image encoder is a ResNet, but the method of TRAINER"):
        cls.method_of(cfg)


def test_classes_named_to_predict_are_prompted_as_in_training(
    house: House, trained: Training, tmp_path: Path
) -> None:
    """Where a class has one prompt, by a template or with learned words; else the data set's template."""
    trainer, options = trained.trainer, setup_options(house.method)
    if "TEXT_CTX_INIT" in options and "DESCRIPTIONS" not in options:
        trainer = house.trainer(tmp_path, "OPTIM.MAX_EPOCH", 1, TEXT_CTX_INIT="many a")
        trainer.train()
    names = trainer.dm.dataset.classnames
    found = Predictor(trainer.output_dir, classes=names).model.prompts
    expected = trainer.model.prompts
    if expected.counts.max() > 1:
        expected = ClassPrompts.tokenize(template_prompts(names, ["a photo of a {}."]))
    assert torch.equal(found.tokens, expected.tokens)
    if isinstance(trainer.model.method, LearnedWords):
        with pytest.raises(ValueError, match='template "a {}." cannot be used: this model learned its own'):
            Predictor(trainer.output_dir, classes=names, template="a {}.")


def setup_options(method: str) -> CfgNode:
    """A method's options with their defaults."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return cfg.TRAINER[node(method).removeprefix("TRAINER.")]
