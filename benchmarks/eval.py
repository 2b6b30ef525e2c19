"""Evaluating images with class features at hand: this project beside the published way.

python benchmarks/eval.py --images 128
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from command_line import positive


def main() -> None:
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--images", type=positive, default=128, help="images of a batch")
    parser.add_argument("--classes", type=positive, default=50)
    args = parser.parse_args()
    found = common.compare(common.work(args, "eval", images=args.images, classes=args.classes), args)
    table = common.rows(found, f"{args.images} images", args.images)
    notes = [common.largest_difference(found), common.machine(args.device, found[0].threads)]
    title = f"Evaluation, {args.backbone}, {args.images} images"
    common.report(title, table, notes, [asdict(side) for side in found], args)


if __name__ == "__main__":
    main()
