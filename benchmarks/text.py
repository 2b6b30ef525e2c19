"""Class features for inference, all descriptions of all classes: this project beside the published way.

python benchmarks/text.py --classes 50 --descriptions 20
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from command_line import positive


def main() -> None:
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--classes", type=positive, default=50)
    parser.add_argument("--descriptions", type=positive, default=20)
    args = parser.parse_args()
    sizes = {"classes": args.classes, "descriptions": args.descriptions}
    found = common.compare(common.work(args, "text", **sizes), args)
    table = common.rows(found, f"{args.classes} x {args.descriptions}", args.classes * args.descriptions)
    notes = [common.largest_difference(found), common.machine(args.device, found[0].threads)]
    title = f"Text features, {args.backbone}, {args.classes} classes of {args.descriptions} descriptions"
    common.report(title, table, notes, [asdict(side) for side in found], args)


if __name__ == "__main__":
    main()
