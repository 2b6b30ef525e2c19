"""Training steps: this project beside the published code's way of computing, on the same weights and inputs.

    python benchmarks/step.py --prompts 50 96 --rounds 5

On a machine without yacs and ftfy their wheels on the path are enough, nothing is installed:
PYTHONPATH=yacs.whl:ftfy.whl:wcwidth.whl python benchmarks/step.py
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from command_line import positive


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--prompts", type=positive, nargs="+", default=[50, 96], help="classes of a step")
    parser.add_argument("--images", type=positive, default=16, help="images of a step")
    args = parser.parse_args()
    table, raw = [], {}
    for prompts in args.prompts:
        found = common.compare(common.work(args, "step", classes=prompts, images=args.images), args)
        table += common.rows(found, f"{prompts} prompts", args.images)
        raw[prompts] = [asdict(side) for side in found]
    title = f"Training step, {args.backbone}, {args.images} images"
    common.report(title, table, [common.machine(args.device, found[0].threads)], raw, args)


if __name__ == "__main__":
    main()
