"""A whole protocol with one command, all data sets and seeds; a second call goes on where the first stopped.

    python reproduce.py base2new --trainers HeBA --datasets all --seeds 1 2 3
    python reproduce.py cross_dataset --gpus 0,1,2,3
    python reproduce.py few_shot --datasets dtd eurosat --shots 1 4 16 --jobs 2
    python reproduce.py calibrate
    python reproduce.py demo --trainers all
    python reproduce.py base2new --dry-run -- TRAINER.HeBA.PREC bf16

Each job is `python train.py ...` in a process and with a log of its own, in the folders of the scripts below
scripts/. What is finished is skipped, what was cut resumes, what crashed is tried once more, what failed
stops nobody; at the end it says which failed and where the log is, and shows the methods in one table.
docs/REPRODUCE.md explains the rest.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("reproduce")

import argparse
import logging
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from command_line import INTERRUPTED, one_line_errors
from runner import calibrate
from runner.display import Display
from runner.jobs import PROTOCOLS, ROOT, Job, Plan, expand
from runner.results import results_folder, show_methods
from runner.schedule import Scheduler, Task
from runner.slots import cpu_slots, gpu_slots

FAILED = 1


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what follows ``--`` are ``KEY VALUE`` pairs for every run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    options = argv[argv.index("--") + 1 :] if "--" in argv else []
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("protocol", choices=list(PROTOCOLS))
    add("--trainers", nargs="+", help="e.g. HeBA ZeroshotCLIP, or all (default: HeBA; demo: both)")
    add(
        "--datasets", nargs="+", default=["all"], help="files below configs/datasets, or all the protocol has"
    )
    add("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add("--shots", nargs="+", type=int, help="images a class (default 16; few_shot: 1 2 4 8 16)")
    add("--root", default=ROOT / "data", type=Path, help="data root (default: data in the repository)")
    add(
        "--output",
        type=Path,
        help="where everything goes (default: output in the repository)",
    )
    add("--config", default="", help="file below configs/trainers/<trainer> instead of the protocol's own")
    add("--source", default="imagenet", help="training data set of cross_dataset and domain_generalization")
    add("--gpus", help="one job a GPU at a time: 0,1,2,3 or all")
    add("--jobs", type=int, default=1, help="jobs at a time on the CPU, which share its cores")
    add("--launcher", choices=["local", "slurm"], default="local")
    add("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. partition=gpu timeout_min=60")
    add("--strict", action="store_true", help="stop if a data set of `all` is missing")
    add("--dry-run", action="store_true", help="print the commands of what is not finished")
    args = parser.parse_args(argv[: argv.index("--")] if "--" in argv else argv)
    args.options = options
    return args


def output_folder(args: argparse.Namespace) -> Path:
    """Where everything goes.

    Raises:
        ValueError: a file is there.
    """
    given = args.output or ROOT / ("output/demo" if args.protocol == "demo" else "output")
    folder = given.expanduser().absolute()
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f'--output "{given}": "{place}" is a file; name a folder')
    return folder


def make_plan(args: argparse.Namespace, output: Path) -> tuple[Plan, dict[str, str]]:
    """What is to be done, and the data sets left out because they are missing, with the reason.

    Raises:
        ValueError: a data set that was asked for by name is missing, or the arguments contradict each other.
    """
    protocol = PROTOCOLS[args.protocol]
    shots = tuple(args.shots or protocol.shots)
    if wrong := [number for number in shots if number < 1 and number != -1]:
        raise ValueError(f"--shots {wrong[0]}: give images a class, 1 or more, or -1 for all")
    if len(shots) > 1 and args.protocol != "few_shot":
        raise ValueError(f"--shots takes one number in {args.protocol}, not {len(shots)}")
    if len(args.options) % 2:
        raise ValueError(f"after -- come pairs KEY VALUE, not {len(args.options)} words")
    root = args.root.expanduser().absolute()
    names = [name for given in args.datasets for name in (protocol.datasets if given == "all" else [given])]
    names = list(dict.fromkeys(names))
    transfer = args.protocol in ("cross_dataset", "domain_generalization")
    missing = missing_datasets([*names, *[args.source] * transfer], root)
    needed = {*args.datasets, *[args.source] * transfer} | (set(names) if args.strict else set())
    if lacking := [f"{name} ({why})" for name, why in missing.items() if name in needed]:
        raise ValueError(
            f'missing below --root "{root}": {", ".join(lacking)}; get them with: {remedy(missing, root)}'
        )
    if len(missing.keys() & set(names)) == len(names):
        raise ValueError(
            f'none of the data sets is below --root "{root}"; get them with: {remedy(names, root)}'
        )
    plan = Plan(
        protocol=args.protocol,
        trainers=trainers(args),
        datasets=[name for name in names if name not in missing],
        seeds=args.seeds,
        shots=shots,
        root=root,
        output=output,
        config=args.config,
        source=args.source,
        options=args.options,
    )
    return plan, missing


def trainers(args: argparse.Namespace) -> list[str]:
    """The trainers that were named, or the protocol's own."""
    if args.protocol == "calibrate":
        return ["ZeroshotCLIP"]
    return args.trainers or (["ZeroshotCLIP", "HeBA"] if args.protocol == "demo" else ["HeBA"])


def remedy(missing: Iterable[str], root: Path) -> str:
    """The command that gets missing data sets: the demo's are drawn, the others downloaded."""
    demos = [name for name in missing if name.startswith("demo")]
    if demos:
        return f"python demo/make_data.py --root {shlex.quote(str(root))} {' '.join(demos)}"
    return f"python -m datasets.prepare --root {shlex.quote(str(root))} {' '.join(missing)}"


def draw_demo(root: Path) -> None:
    """Draws the demo's pictures if they are not there.

    Raises:
        ValueError: that failed; it has said why.
    """
    command = [sys.executable, str(ROOT / "demo" / "make_data.py"), "--root", str(root), "demo"]
    status = subprocess.run(command).returncode
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"the demo's pictures could not be drawn: {shlex.join(command)}")


def missing_datasets(names: Sequence[str], root: Path) -> dict[str, str]:
    """The data sets that are not there, with the reason."""
    from runner.state import missing_reason

    return {name: reason for name in dict.fromkeys(names) if (reason := missing_reason(name, root))}


def make_tasks(plan: Plan) -> list[Task]:
    """The plan's jobs, each with its log and only those of its runs that are not finished."""
    from runner.state import unfinished

    tasks = []
    for job in expand(plan):
        rest = unfinished(job)
        log = plan.output / "logs" / plan.protocol / f"{job.name.replace(' ', '-')}.log"
        status = "waiting" if rest else "finished"
        tasks.append(Task(rest or job, log, status, was_finished=rest is None))
    return tasks


@one_line_errors("the same command goes on from here")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all done, 1 something failed, 2 a user's mistake, 130 interrupted."""
    logger = logging.getLogger("runner")  # not the root's: submitit shows its own messages
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    args = parse_args(argv)
    output = output_folder(args)
    if args.protocol == "demo" and not args.dry_run:
        draw_demo(args.root.expanduser().absolute())
    plan, missing = make_plan(args, output)
    tasks = make_tasks(plan)
    if args.dry_run:
        for task in tasks:
            if task.status == "waiting":
                print(shlex.join(Job.command(task.job)))
        say_missing(missing, plan.root)
        return 0
    return run(args, plan, tasks, missing)


def run(args: argparse.Namespace, plan: Plan, tasks: list[Task], missing: dict[str, str]) -> int:
    """Does the tasks and says how it went."""
    slots = gpu_slots(args.gpus) if args.gpus else cpu_slots(args.jobs)
    display = Display(tasks, len(slots))
    if args.launcher == "slurm":
        from runner.slurm import ClusterScheduler, parse_resources

        todo = [task for task in tasks if task.status == "waiting"]
        folder = plan.output / "logs" / "slurm"
        scheduler = ClusterScheduler(todo, display, folder, parse_resources(args.slurm))
        going_on = "the submitted jobs go on (squeue lists them, scancel stops them)"
    else:
        scheduler = Scheduler(tasks, slots, display)
        going_on = "the same command goes on from here"
    try:
        scheduler.run()
    except KeyboardInterrupt:
        print(f"{display.summary()}\ninterrupted; {going_on}")
        return INTERRUPTED
    print(display.summary())
    say_missing(missing, plan.root)
    status = exit_status(tasks)
    if plan.protocol == "calibrate":
        return judge(tasks) or status
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(f"\n{show_methods(plan, width)}")
    table = shlex.join(["python", str(ROOT / "parse_test_res.py"), str(results_folder(plan))])
    print(f"beside published numbers: {table}")
    return status


def exit_status(tasks: Sequence[Task]) -> int:
    """0 if all are finished; 130 if jobs were interrupted and nothing failed."""
    statuses = {task.status for task in tasks}
    if "failed" in statuses or statuses <= {"finished"}:
        return FAILED if "failed" in statuses else 0
    return INTERRUPTED if "interrupted" in statuses else FAILED


def judge(tasks: Sequence[Task]) -> int:
    """Compares zero-shot CLIP with its published accuracies; 1 if a data set is off or there is none."""
    jobs = [task.job for task in tasks]
    compared = calibrate.compare(jobs, calibrate.published_zero_shot())
    if not compared:
        print("nothing could be compared with published accuracies")
        return FAILED
    print(calibrate.report(compared))
    wrong = [comparison.dataset for comparison in compared if not comparison.is_right]
    if wrong:
        print(f"more than {calibrate.TOLERANCE} points off: {', '.join(wrong)}")
        return FAILED
    print(f"all {len(compared)} data sets within {calibrate.TOLERANCE} points of the published accuracies")
    return 0


def say_missing(missing: dict[str, str], root: Path) -> None:
    """Names the data sets that were left out, and the command that gets them."""
    if missing:
        print("left out, because missing:", file=sys.stderr)
        for name, reason in missing.items():
            print(f"    {name}: {reason}", file=sys.stderr)
        print(f"get them with: {remedy(missing, root)}", file=sys.stderr)
