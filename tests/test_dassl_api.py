"""The names, parameters and defaults that our dassl/ shares with Dassl 0.6.3, as data."""

import inspect
import re
from types import ModuleType
from typing import Any

import pytest
from torchvision.transforms import InterpolationMode

import dassl.config
import dassl.data
import dassl.data.datasets
import dassl.data.transforms
import dassl.engine
import dassl.evaluation
import dassl.metrics
import dassl.optim
import dassl.utils
from dassl.config.defaults import FIXED, check_fixed
from fileio.settings import flatten

SETTINGS = {
    "": {"OUTPUT_DIR": "./output", "RESUME": "", "SEED": -1, "USE_CUDA": True, "VERBOSE": True},
    "INPUT.": {
        **{"SIZE": (224, 224), "INTERPOLATION": "bilinear", "TRANSFORMS": (), "NO_TRANSFORM": False},
        **{"PIXEL_MEAN": [0.485, 0.456, 0.406], "PIXEL_STD": [0.229, 0.224, 0.225]},
        **{"CROP_PADDING": 4, "RRCROP_SCALE": (0.08, 1.0), "CUTOUT_N": 1, "CUTOUT_LEN": 16},
        **{"GN_MEAN": 0.0, "GN_STD": 0.15, "RANDAUGMENT_N": 2, "RANDAUGMENT_M": 10},
        **{"COLORJITTER_B": 0.4, "COLORJITTER_C": 0.4, "COLORJITTER_S": 0.4, "COLORJITTER_H": 0.1},
        **{"RGS_P": 0.2, "GB_P": 0.5, "GB_K": 21},
    },
    "DATASET.": {"ROOT": "", "NAME": "", "SOURCE_DOMAINS": (), "TARGET_DOMAINS": (), "NUM_SHOTS": -1},
    "DATALOADER.": {"NUM_WORKERS": 4, "K_TRANSFORMS": 1, "RETURN_IMG0": False},
    "DATALOADER.TRAIN_X.": {"SAMPLER": "RandomSampler", "BATCH_SIZE": 32, "N_DOMAIN": 0, "N_INS": 16},
    "DATALOADER.TRAIN_U.": {
        **{"SAMPLER": "RandomSampler", "BATCH_SIZE": 32, "N_DOMAIN": 0, "N_INS": 16, "SAME_AS_X": True}
    },
    "DATALOADER.TEST.": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
    "MODEL.": {"INIT_WEIGHTS": "", "BACKBONE.NAME": "", "BACKBONE.PRETRAINED": True, "HEAD.NAME": ""},
    "OPTIM.": {
        **{"NAME": "adam", "LR": 0.0003, "WEIGHT_DECAY": 5e-4, "MOMENTUM": 0.9, "SGD_DAMPNING": 0},
        **{"SGD_NESTEROV": False, "RMSPROP_ALPHA": 0.99, "ADAM_BETA1": 0.9, "ADAM_BETA2": 0.999},
        **{"STAGED_LR": False, "NEW_LAYERS": (), "BASE_LR_MULT": 0.1, "LR_SCHEDULER": "single_step"},
        **{"STEPSIZE": (-1,), "GAMMA": 0.1, "MAX_EPOCH": 10, "WARMUP_EPOCH": -1, "WARMUP_TYPE": "linear"},
        **{"WARMUP_CONS_LR": 1e-5, "WARMUP_MIN_LR": 1e-5, "WARMUP_RECOUNT": True},
    },
    "TRAIN.": {"CHECKPOINT_FREQ": 0, "PRINT_FREQ": 10},
    "TEST.": {
        **{"EVALUATOR": "Classification", "PER_CLASS_RESULT": False, "COMPUTE_CMAT": False, "NO_TEST": False},
        **{"SPLIT": "test", "FINAL_MODEL": "last_step"},
    },
    "TRAINER.": {"NAME": ""},
}
# Ours alone. Dassl's further keys are not declared: they belong to its trainers of domain adaptation, domain
# generalisation and semi-supervised learning (the nodes MCD, MME, CDAC, SE, M3SDA, DAEL, CROSSGRAD, DDAIG,
# DAELDG, DOMAINMIX, ENTMIN, MEANTEACHER, MIXMATCH, FIXMATCH below TRAINER, and what their data and networks
# read), none of which is here.
ADDED = {"TRAIN.RESUME", "TRAIN.RESUME_SECONDS", "DATALOADER.CACHE_MB"}

# Parameters as Python writes them, without self and types.
CALLABLES: dict[ModuleType, dict[str, str]] = {
    dassl.config: {"get_cfg_default": ""},
    dassl.engine: {
        "build_trainer": "cfg",
        "TRAINER_REGISTRY.register": "obj=None, force=False",
        "TRAINER_REGISTRY.get": "name",
        "TRAINER_REGISTRY.registered_names": "",
        "SimpleTrainer": "cfg",
        "TrainerX": "cfg",
        **{
            f"TrainerX.{method}": parameters
            for method, parameters in {
                **{"check_cfg": "cfg", "build_data_loader": "", "build_model": "", "train": ""},
                **{"before_train": "", "before_epoch": "", "run_epoch": "", "after_epoch": ""},
                **{"after_train": "", "test": "split=None"},
                "register_model": "name='model', model=None, optim=None, sched=None",
                "get_model_names": "names=None",
                "set_model_mode": "mode='train', names=None",
                **{"update_lr": "names=None", "get_current_lr": "names=None", "detect_anomaly": "loss"},
                **{"model_zero_grad": "names=None", "model_backward": "loss", "model_update": "names=None"},
                "model_backward_and_update": "loss, names=None",
                **{"forward_backward": "batch", "model_inference": "input"},
                **{"parse_batch_train": "batch", "parse_batch_test": "batch"},
                "save_model": "epoch, directory, is_best=False, val_result=None, model_name=''",
                "resume_model_if_exist": "directory",
                "load_model": "directory, epoch=None",
                "close_writer": "",
                "write_scalar": "tag, scalar_value, global_step=None",
            }.items()
        },
    },
    dassl.data: {
        "DataManager": "cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None",
        "DatasetWrapper": "cfg, data_source, transform=None, is_train=False",
    },
    dassl.data.datasets: {
        "build_dataset": "cfg",
        "DATASET_REGISTRY.register": "obj=None, force=False",
        "Datum": "impath='', label=0, domain=0, classname=''",
        "DatasetBase": "train_x=None, train_u=None, val=None, test=None",
        "DatasetBase.generate_fewshot_dataset": "*data_sources, num_shots=-1, repeat=False",
        "DatasetBase.split_dataset_by_label": "data_source",
    },
    dassl.data.transforms: {"build_transform": "cfg, is_train=True, choices=None"},
    dassl.optim: {
        "build_optimizer": "model, optim_cfg, param_groups=None",
        "build_lr_scheduler": "optimizer, optim_cfg",
    },
    dassl.evaluation: {
        "build_evaluator": "cfg, **kwargs",
        "EVALUATOR_REGISTRY.register": "obj=None, force=False",
        "EvaluatorBase": "cfg",
        "EvaluatorBase.process": "mo, gt",
        "Classification": "cfg, lab2cname=None, **kwargs",
        **{"Classification.reset": "", "Classification.process": "mo, gt", "Classification.evaluate": ""},
    },
    dassl.metrics: {"compute_accuracy": "output, target, topk=(1,)"},
    dassl.utils: {
        **{"setup_logger": "output=None", "set_random_seed": "seed", "collect_env_info": ""},
        **{"load_checkpoint": "fpath", "load_pretrained_weights": "model, weight_path"},
        "save_checkpoint": "state, save_dir, is_best=False, remove_module_from_keys=True, model_name=''",
        "resume_from_checkpoint": "fdir, model, optimizer=None, scheduler=None",
        **{"listdir_nohidden": "path, sort=False", "mkdir_if_missing": "dirname", "check_isfile": "fpath"},
        **{"read_json": "fpath", "write_json": "obj, fpath", "read_image": "path", "tolist_if_not": "x"},
        **{"MetricMeter": "delimiter=' '", "MetricMeter.update": "input_dict"},
        **{
            "AverageMeter.update": "val, n=1",
            "Registry": "name",
            "check_availability": "requested, available",
        },
    },
}
# Where ours has another parameter list: what is there instead, and why.
DIFFERENT = {
    # the last parameters are for messages: the key, and what else to do
    "check_availability": "requested, available, key='the name', hint=''",
    # refuses a checkpoint before anything of it is loaded
    "resume_from_checkpoint": "fdir, model, optimizer=None, scheduler=None, check=None",
    # turns pictures upright as their EXIF orientation says (INPUT.EXIF_TRANSPOSE)
    "read_image": "path, *, upright=False",
}


def test_every_setting_of_dassl_has_its_default() -> None:
    ours = flatten(dassl.config.get_cfg_default())
    expected = {f"{prefix}{key}": value for prefix, keys in SETTINGS.items() for key, value in keys.items()}
    assert {key: value for key, value in ours.items() if key not in ADDED} == expected
    assert ours.keys() - expected.keys() == ADDED
    assert {key: type(ours[key]) for key in expected} == {key: type(v) for key, v in expected.items()}


@pytest.mark.parametrize("key", FIXED)
def test_a_key_of_what_is_left_out_has_its_default_alone(key: str) -> None:
    cfg = dassl.config.get_cfg_default()
    check_fixed(cfg)
    only = FIXED[key]
    other = not only if type(only) is bool else {str: "other", tuple: ("head",)}.get(type(only), 99)
    cfg.merge_from_list([key, type(only)(other)])
    said = rf"^{re.escape(key)} is .*, but this reduced Dassl has .* alone; set it to that, or .* DASSL_PATH$"
    calls = [
        (dassl.engine.TrainerX, "", (cfg,)),
        (dassl.data.DataManager, "", (cfg,)),
        (dassl.data.transforms.build_transform, "INPUT.", (cfg,)),
        (dassl.optim.build_optimizer, "OPTIM.", ([], cfg.OPTIM)),
        (dassl.optim.build_lr_scheduler, "OPTIM.", (None, cfg.OPTIM)),
    ]
    for call, node, arguments in calls:
        if key.startswith(node):
            with pytest.raises(ValueError, match=said):
                call(*arguments)


def parameters(found: Any) -> str:
    """The parameters of a callable without ``self`` and types."""
    listed = [
        parameter.replace(annotation=parameter.empty)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(listed))[1:-1]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in CALLABLES.items() for name in names],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_name_of_dassl_takes_its_parameters(module: ModuleType, name: str) -> None:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    assert parameters(found) == DIFFERENT.get(name, CALLABLES[module][name])


def test_every_named_difference_is_one() -> None:
    names = {name: listed for names in CALLABLES.values() for name, listed in names.items()}
    assert all(names[name] != ours for name, ours in DIFFERENT.items())


def test_interpolations_are_dassls() -> None:
    assert dassl.data.transforms.INTERPOLATION_MODES == {
        "bilinear": InterpolationMode.BILINEAR,
        "bicubic": InterpolationMode.BICUBIC,
        "nearest": InterpolationMode.NEAREST,
    }


@pytest.mark.parametrize("name", ["impath", "label", "domain", "classname"])
def test_a_datum_has_dassls_attributes(name: str) -> None:
    assert isinstance(getattr(dassl.data.datasets.Datum, name), property)


@pytest.mark.parametrize(
    "name", ["train_x", "train_u", "val", "test", "lab2cname", "classnames", "num_classes"]
)
def test_a_dataset_has_dassls_attributes(name: str) -> None:
    assert isinstance(getattr(dassl.data.datasets.DatasetBase, name), property)
