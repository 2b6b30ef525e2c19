"""Every configuration key there is; setting another one is an error.

MODEL.BACKBONE.PRETRAINED and MODEL.HEAD.NAME are read by nothing here: they are declared because the
family's command line and YAML files set them.
"""

from typing import Any

from yacs.config import CfgNode

# What messages say of a name that this reduced Dassl may lack.
ORIGINAL = "the original Dassl (DASSL_PATH) has more"

# Keys of Dassl that belong to what is not here (see ``check_fixed``): no method of the family sets them.
FIXED: dict[str, Any] = {
    "INPUT.NO_TRANSFORM": False,
    "INPUT.CROP_PADDING": 4,
    "INPUT.CUTOUT_N": 1,
    "INPUT.CUTOUT_LEN": 16,
    "INPUT.GN_MEAN": 0.0,
    "INPUT.GN_STD": 0.15,
    "INPUT.RANDAUGMENT_N": 2,
    "INPUT.RANDAUGMENT_M": 10,
    "INPUT.COLORJITTER_B": 0.4,
    "INPUT.COLORJITTER_C": 0.4,
    "INPUT.COLORJITTER_S": 0.4,
    "INPUT.COLORJITTER_H": 0.1,
    "INPUT.RGS_P": 0.2,
    "INPUT.GB_P": 0.5,
    "INPUT.GB_K": 21,
    "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.RETURN_IMG0": False,
    "DATALOADER.TRAIN_X.N_DOMAIN": 0,
    "DATALOADER.TRAIN_X.N_INS": 16,
    "DATALOADER.TRAIN_U.SAME_AS_X": True,
    "DATALOADER.TRAIN_U.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_U.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_U.N_DOMAIN": 0,
    "DATALOADER.TRAIN_U.N_INS": 16,
    "OPTIM.SGD_DAMPNING": 0,
    "OPTIM.SGD_NESTEROV": False,
    "OPTIM.RMSPROP_ALPHA": 0.99,
    "OPTIM.STAGED_LR": False,
    "OPTIM.NEW_LAYERS": (),
    "OPTIM.BASE_LR_MULT": 0.1,
    "OPTIM.WARMUP_RECOUNT": True,
}


def get_cfg_default() -> CfgNode:
    """A fresh copy of the default configuration; trainers add their own node below ``TRAINER``."""
    cfg = CfgNode()
    cfg.OUTPUT_DIR = "./output"
    cfg.RESUME = ""  # folder to continue from; empty: OUTPUT_DIR
    cfg.SEED = -1  # negative: not seeded
    cfg.USE_CUDA = True
    cfg.VERBOSE = True
    cfg.INPUT = _input()
    cfg.DATASET = _dataset()
    cfg.DATALOADER = _dataloader()

    cfg.MODEL = CfgNode()
    cfg.MODEL.INIT_WEIGHTS = ""  # path of weights that a trainer may start from
    cfg.MODEL.BACKBONE = CfgNode()
    cfg.MODEL.BACKBONE.NAME = ""
    cfg.MODEL.BACKBONE.PRETRAINED = True
    cfg.MODEL.HEAD = CfgNode()
    cfg.MODEL.HEAD.NAME = ""

    cfg.OPTIM = _optim()

    cfg.TRAIN = CfgNode()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # epochs between checkpoints; 0: only the last epoch's
    cfg.TRAIN.PRINT_FREQ = 10  # batches between log lines
    cfg.TRAIN.RESUME = True  # not in Dassl: keep one <OUTPUT_DIR>/resume.pth.tar while training
    cfg.TRAIN.RESUME_SECONDS = 60.0  # not in Dassl: least seconds between its writings; 0: after every epoch

    cfg.TEST = CfgNode()
    cfg.TEST.EVALUATOR = "Classification"
    cfg.TEST.PER_CLASS_RESULT = False
    cfg.TEST.COMPUTE_CMAT = False  # save the confusion matrix as <OUTPUT_DIR>/cmat.pt
    cfg.TEST.NO_TEST = False
    cfg.TEST.SPLIT = "test"
    cfg.TEST.FINAL_MODEL = "last_step"  # or best_val

    cfg.TRAINER = CfgNode()
    cfg.TRAINER.NAME = ""
    for key, value in FIXED.items():
        *nodes, name = key.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CfgNode())
        node[name] = value
    return cfg


def check_fixed(cfg: CfgNode, within: str = "") -> None:
    """Raises ValueError, with the key, if a key in ``FIXED`` has another value than its only one.

    Args:
        cfg: the whole configuration, or the node that ``within`` names.
        within: ``OPTIM.``, for example.
    """
    for key, only in FIXED.items():
        if key.startswith(within):
            value: Any = cfg
            for part in key.removeprefix(within).split("."):
                value = value[part]
            if value != only:
                raise ValueError(
                    f"{key} is {value}, but this reduced Dassl has {only} alone; set it to that, or use the "
                    "original Dassl by DASSL_PATH"
                )


def _input() -> CfgNode:
    node = CfgNode()
    node.SIZE = (224, 224)  # height, width
    node.INTERPOLATION = "bilinear"
    node.TRANSFORMS = ()
    node.PIXEL_MEAN = [0.485, 0.456, 0.406]
    node.PIXEL_STD = [0.229, 0.224, 0.225]
    node.RRCROP_SCALE = (0.08, 1.0)
    return node


def _dataset() -> CfgNode:
    node = CfgNode()
    node.ROOT = ""
    node.NAME = ""
    node.SOURCE_DOMAINS = ()
    node.TARGET_DOMAINS = ()
    node.NUM_SHOTS = -1  # images a class; -1: all; 0: no training, all are listed
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    node.NUM_WORKERS = 4
    node.CACHE_MB = 1000.0  # not in Dassl: memory for decoded training images; 0: decode in each epoch
    node.TRAIN_X = CfgNode()
    node.TRAIN_X.SAMPLER = "RandomSampler"
    node.TRAIN_X.BATCH_SIZE = 32
    node.TEST = CfgNode()
    node.TEST.SAMPLER = "SequentialSampler"
    node.TEST.BATCH_SIZE = 32
    return node


def _optim() -> CfgNode:
    node = CfgNode()
    node.NAME = "adam"
    node.LR = 0.0003
    node.WEIGHT_DECAY = 5e-4
    node.MOMENTUM = 0.9
    node.ADAM_BETA1 = 0.9
    node.ADAM_BETA2 = 0.999
    node.LR_SCHEDULER = "single_step"
    node.STEPSIZE = (-1,)  # epochs; the last counts, not positive: MAX_EPOCH
    node.GAMMA = 0.1
    node.MAX_EPOCH = 10
    node.WARMUP_EPOCH = -1  # not positive: no warm-up
    node.WARMUP_TYPE = "linear"  # or constant
    node.WARMUP_CONS_LR = 1e-5
    node.WARMUP_MIN_LR = 1e-5
    return node
