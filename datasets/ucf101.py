"""UCF101 (middle frames) (101 classes) in CoOp's layout."""

import random
import re

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset
from datasets.raw_splits import Item, Split, read_lines, split_trainval


@DATASET_REGISTRY.register()
class UCF101(SplitFileDataset):
    """``ucf101/UCF-101-midframes`` with ``split_zhou_UCF101.json``."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"

    def draw_split(self, rng: random.Random) -> Split:
        lists = self.dataset_dir / "ucfTrainTestlist"
        rows = (line.split(" ") for line in read_lines(lists / "classInd.txt"))
        labels = {action: int(number) - 1 for number, action in rows}
        trainval, test = (
            [frame(line, labels) for line in read_lines(lists / name)]
            for name in ("trainlist01.txt", "testlist01.txt")
        )
        return split_trainval(trainval, test, rng)


def frame(line: str, labels: dict[str, int]) -> Item:
    """``YoYo/v_YoYo_g01_c01.avi 100`` is the frame ``Yo_Yo/v_YoYo_g01_c01.jpg`` of class "Yo_Yo"."""
    action, _, video = line.split(" ")[0].partition("/")
    name = "_".join(re.findall("[A-Z][^A-Z]*", action))
    return f"{name}/{video.replace('.avi', '.jpg')}", labels[action], name
