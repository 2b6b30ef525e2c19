"""ImageNetV2 (matched frequency; 1,000 classes, test only) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """``imagenetv2/imagenetv2-matched-frequency-format-val/<label>/``: folders are numbers, not wnids."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"

    def label(self, files: dict[str, list[str]], names: dict[str, str]) -> list[Datum]:
        """The number of a folder is its label and the place of its class in ``classnames.txt``."""
        classnames = list(names.values())
        wrong = files.keys() ^ {str(label) for label in range(len(classnames))}
        if wrong:
            raise ValueError(
                f'"{self.image_dir}" must hold one folder for each line of classnames.txt, 0 to '
                f'{len(classnames) - 1}; missing or unexpected: "{min(wrong)}" and {len(wrong) - 1} more'
            )
        return [
            Datum(impath=f"{self.image_dir}/{label}/{file}", label=label, classname=classnames[label])
            for label in sorted(map(int, files))
            for file in files[str(label)]
        ]
