"""The demo's data sets: pictures of its own small world, which `demo/make_data.py` draws."""

from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


class DemoDataset(SplitFileDataset):
    """``<dataset_dir>/images`` with ``split_zhou_<name>.json``, in CoOp's layout.

    Raises:
        FileNotFoundError: it has not been made yet; the message says how.
    """

    image_dir = "images"

    def __init__(self, cfg: CfgNode) -> None:
        split = Path(cfg.DATASET.ROOT).expanduser() / self.dataset_dir / self.split_file
        if not split.is_file():  # written last
            raise FileNotFoundError(
                f'data set {cfg.DATASET.NAME}: "{split}" is missing; make it with: python demo/make_data.py '
                f'--root "{cfg.DATASET.ROOT}" {self.dataset_dir}'
            )
        super().__init__(cfg)


@DATASET_REGISTRY.register()
class Demo(DemoDataset):
    """Few-shot: 40 classes ("dotted red oval") in the warm style."""

    dataset_dir = "demo"
    split_file = "split_zhou_Demo.json"


@DATASET_REGISTRY.register()
class DemoCold(DemoDataset):
    """Domain generalisation: Demo's classes in the cold style."""

    dataset_dir = "demo_cold"
    split_file = "split_zhou_DemoCold.json"


@DATASET_REGISTRY.register()
class DemoDark(DemoDataset):
    """Domain generalisation: Demo's classes in the dark style."""

    dataset_dir = "demo_dark"
    split_file = "split_zhou_DemoDark.json"


@DATASET_REGISTRY.register()
class DemoColourShape(DemoDataset):
    """Cross-dataset: 20 classes ("red star"), textures vary, warm."""

    dataset_dir = "demo_colour_shape"
    split_file = "split_zhou_DemoColourShape.json"


@DATASET_REGISTRY.register()
class DemoShapeBackground(DemoDataset):
    """Cross-dataset: 20 classes ("star on grass"), cold."""

    dataset_dir = "demo_shape_background"
    split_file = "split_zhou_DemoShapeBackground.json"


@DATASET_REGISTRY.register()
class DemoCountShape(DemoDataset):
    """Cross-dataset: 24 classes ("pair of stars"), dark."""

    dataset_dir = "demo_count_shape"
    split_file = "split_zhou_DemoCountShape.json"
