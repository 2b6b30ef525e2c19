"""A whole protocol with one command, all data sets and seeds; a second call goes on where the first stopped.

    python reproduce.py base2new --trainers HeBA --datasets all --seeds 1 2 3
    python reproduce.py cross_dataset --gpus 0,1,2,3
    python reproduce.py few_shot --datasets dtd eurosat --shots 1 4 16 --jobs 2
    python reproduce.py calibrate
    python reproduce.py demo --trainers all
    python reproduce.py base2new --dry-run -- TRAINER.HeBA.PREC bf16

Each job is `python train.py ...` in a process and with a log of its own, in the folders of the scripts below
scripts/. What is finished is skipped, what was cut resumes, what crashed is tried once more, what failed
stops nobody, unless others fail alike; at the end it says which failed and where the log is, and shows the
methods in one table. Before the first job starts, what the jobs would find wrong is looked for: all mistakes
are listed at once.
docs/REPRODUCE.md explains the rest.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("reproduce")

import argparse
import logging
import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from command_line import INTERRUPTED, Parser, one_line_errors, positive
from runner import ROOT, calibrate
from runner.display import Display, clock, time_left
from runner.jobs import OWN_KEYS, PROTOCOLS, Job, Plan, config_name, expand, models, named_trainers
from runner.problems import Problems
from runner.results import results_folder, show_methods
from runner.schedule import Scheduler, Slot, Task
from runner.slots import cpu_slots, gpu_slots

FAILED = 1
DRAWN = "demo"  # the data set that the protocol of this name draws


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what follows ``--`` are ``KEY VALUE`` pairs for every run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    options = argv[argv.index("--") + 1 :] if "--" in argv else []
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("protocol", choices=list(PROTOCOLS))
    add("--trainers", **LIST, help="e.g. HeBA ZeroshotCLIP, or all (default: HeBA; demo: both)")
    add("--datasets", **LIST, default=[["all"]], help="by any of their names, or all the protocol has")
    add("--seeds", **LIST, default=[["1", "2", "3"]], help="1 2 3, or 1,2,3; so do the other lists")
    add("--shots", **LIST, help="images a class (default 16; few_shot: 1 2 4 8 16)")
    add("--root", default=ROOT / "data", type=Path, help="data root (default: data in the repository)")
    add(
        "--output",
        type=Path,
        help="where everything goes (default: output in the repository)",
    )
    add("--config", default="", help="file below configs/trainers/<trainer> instead of the protocol's own")
    add("--source", default="imagenet", help="training data set of cross_dataset and domain_generalization")
    add("--gpus", **LIST, help="one job a GPU at a time: 0,1,2,3 (of CUDA_VISIBLE_DEVICES), UUIDs, or all")
    add("--jobs", type=positive, default=1, help="jobs at a time on the CPU, which share its cores")
    add("--launcher", choices=["local", "slurm"], default="local")
    add("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. partition=gpu timeout_min=60")
    add("--strict", action="store_true", help="stop if a data set of `all` is missing")
    add("--dry-run", action="store_true", help="print the commands of what is not finished")
    args = parser.parse_args(argv[: argv.index("--")] if "--" in argv else argv)
    for name in ("trainers", "datasets", "seeds", "shots", "gpus"):
        if (given := getattr(args, name)) is not None:
            setattr(args, name, [word for words in given for word in words])
            if not getattr(args, name):
                parser.error(f"argument --{name}: the list is empty")
    args.options = options
    return args


def words(text: str) -> list[str]:
    """Type of an argument that is a list: ``a,b``, or one word of ``a b``."""
    return [word.strip() for word in text.split(",") if word.strip()]


LIST = {"nargs": "+", "type": words}


def output_folder(args: argparse.Namespace, problems: Problems) -> Path:
    """Where everything goes."""
    given = args.output or ROOT / ("output/demo" if args.protocol == "demo" else "output")
    folder = given.expanduser().absolute()
    if place := file_in_the_way(folder):
        problems.add(f'--output "{given}": "{place}" is a file; name a folder')
    return folder


def file_in_the_way(folder: Path) -> Path | None:
    """The file that stands where a folder or one above it is to be; None if there is none."""
    return next((place for place in (folder, *folder.parents) if place.is_file()), None)


def make_plan(args: argparse.Namespace, output: Path, problems: Problems) -> tuple[Plan, dict[str, str]]:
    """What is to be done, and the data sets left out because they are missing, with the reason.

    What the call gets wrong is added to ``problems``, and left out of the plan.
    """
    protocol = PROTOCOLS[args.protocol]
    seeds = whole_numbers("--seeds", args.seeds, problems) or (1,)
    shots = whole_numbers("--shots", args.shots or protocol.shots, problems) or protocol.shots
    if wrong := [number for number in shots if number < 1 and number != -1]:
        problems.add(f"--shots {wrong[0]}: give images a class, 1 or more, or -1 for all")
        shots = tuple(number for number in shots if number not in wrong) or protocol.shots
    if len(shots) > 1 and args.protocol != "few_shot":
        problems.add(f"--shots takes one number in {args.protocol}, not {len(shots)}")
    for seed in seeds:
        if seed not in range(2**32):
            problems.add(f"--seeds {seed}: generators take numbers from 0, below {2**32}")
    seeds = tuple(seed for seed in seeds if seed in range(2**32)) or (1,)
    options = list(args.options)
    if len(options) % 2:
        problems.add(f"after -- come pairs KEY VALUE, not {len(options)} words: {shlex.join(options)}")
        options = []
    for given in dict.fromkeys(options[::2]):
        for key in own_keys(given):
            problems.add(f"{key} after -- would be the same for all jobs; say it with {OWN_KEYS[key]}")
    pairs = zip(options[::2], options[1::2], strict=True)
    options = [word for pair in pairs if not own_keys(pair[0]) for word in pair]
    root = args.root.expanduser().absolute()
    names, source, missing = find_datasets(args, root, problems)
    plan = Plan(
        protocol=args.protocol,
        trainers=find_trainers(args, problems),
        datasets=names,
        seeds=seeds,
        shots=shots,
        root=root,
        output=output,
        config=args.config,
        source=source,
        options=options,
    )
    runnable = []
    for trainer in named_trainers(plan):
        before = len(problems.texts)
        for model in models(plan):
            with problems.noting():
                config_name(plan, trainer, model)
        runnable += [trainer] if len(problems.texts) == before else []
    return replace(plan, trainers=runnable if source else []), missing


def whole_numbers(flag: str, given: Iterable[str | int], problems: Problems) -> tuple[int, ...]:
    """The numbers of a list, each once; words that are no whole numbers are added to ``problems``."""
    found = []
    for word in given:
        try:
            found.append(int(word))
        except ValueError:
            problems.add(f'{flag}: "{word}" is not a whole number; give one, or several as 1,2,3')
    return tuple(dict.fromkeys(found))


def own_keys(given: str) -> list[str]:
    """The keys of ``OWN_KEYS`` that a key sets: itself, or what stands below a group (``DATASET {…}``)."""
    return [key for key in OWN_KEYS if key == given or key.startswith(f"{given}.")]


def find_trainers(args: argparse.Namespace, problems: Problems) -> list[str]:
    """The trainers that were named, by the names that ``--trainer`` takes, or the protocol's own."""
    from runner.names import resolve, suggestion, trainer_names

    if args.protocol == "calibrate":
        return ["ZeroshotCLIP"]
    known = trainer_names()
    own = ["ZeroshotCLIP", "HeBA"] if args.protocol == "demo" else ["HeBA"]
    names, unknown = resolve(args.trainers or own, known)
    for name in unknown:
        problems.add(f"--trainers: there is no trainer {name}; {suggestion(name, known)}")
    return names


def find_datasets(
    args: argparse.Namespace, root: Path, problems: Problems
) -> tuple[list[str], str, dict[str, str]]:
    """The data sets to evaluate, the source ("" if it is unknown), and which are missing, with the reason."""
    from runner.names import dataset_names, resolve, suggestion
    from runner.state import missing_reason

    protocol, known = PROTOCOLS[args.protocol], dataset_names()
    asked, unknown = resolve(args.datasets, known)
    sources, unknown_source = resolve([args.source], known)
    for flag, name in [("--datasets", name) for name in unknown] + [("--source", n) for n in unknown_source]:
        problems.add(f"{flag}: {name} (no loader of that name); {suggestion(name, known)}")
    names = [name for given in asked for name in (protocol.datasets if given == "all" else [given])]
    names = list(dict.fromkeys(names))
    transfer = args.protocol in ("cross_dataset", "domain_generalization")
    needed = {*asked, *sources * transfer} | (set(names) if args.strict else set())
    looked_for = dict.fromkeys([*names, *sources * transfer])
    if args.protocol == "demo":
        looked_for.pop(DRAWN, None)
    missing = {name: reason for name in looked_for if (reason := missing_reason(name, root))}
    lacking = {name: why for name, why in missing.items() if name in needed}
    if lacking:
        listed = ", ".join(f"{name} ({why})" for name, why in lacking.items())
        problems.add(f'missing below --root "{root}": {listed}; {remedy(lacking, root)}')
    elif names and missing.keys() >= set(names):
        problems.add(f'none of the data sets is below --root "{root}"; {remedy(names, root)}')
        lacking = missing
    # What lacks is a mistake, and nothing will start; the rest of its jobs is looked at all the same.
    names = [name for name in names if name not in missing or name in lacking]
    return names, next(iter(sources), ""), missing


def remedy(missing: Iterable[str], root: Path) -> str:
    """How to get missing data sets: the demo's are drawn, published ones downloaded, others the user has."""
    from datasets.preparation.sources import load_sources

    published = {source.config for source in load_sources()}
    demos = [name for name in missing if name.startswith("demo")]
    known = [name for name in missing if name in published]
    place = shlex.quote(str(root))
    ways = [f"python demo/make_data.py --root {place} {' '.join(demos)}"] * bool(demos)
    ways += [f"python -m datasets.prepare --root {place} {' '.join(known)}"] * bool(known)
    if not ways:
        return "let --root be the folder that holds them"
    return f"get them with: {' && '.join(ways)} (or let --root be the folder that holds them)"


def look_for_drawn(root: Path, problems: Problems) -> bool:
    """Whether the demo's pictures must be drawn first; what is in the way is added to ``problems``."""
    from demo.make_data import STAMP, check_ours, is_drawn

    folder = root / DRAWN
    if is_drawn(DRAWN, root):
        return False
    if why := unwritable(folder / STAMP):
        problems.add(f"{why}; choose another --root")
    with problems.noting():
        check_ours(folder)
    return True


def draw_command(root: Path) -> list[str]:
    """The command that draws the demo's pictures."""
    return [sys.executable, str(ROOT / "demo" / "make_data.py"), "--root", str(root), DRAWN]


def draw_demo(root: Path) -> None:
    """Draws the demo's pictures if they are not there.

    Raises:
        ValueError: that failed; it has said why.
    """
    command = draw_command(root)
    status = subprocess.run(command).returncode
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"the demo's pictures could not be drawn: {shlex.join(command)}")


def make_tasks(plan: Plan, problems: Problems) -> list[Task]:
    """The plan's jobs, each with its log and only those of its runs that are not finished."""
    from runner.state import recorded_seconds, unfinished

    tasks = []
    for job in expand(plan):
        rest = unfinished(job, problems)
        log = plan.output / "logs" / plan.protocol / f"{job.name.replace(' ', '-')}.log"
        if rest is None:
            tasks.append(Task(job, log, "finished", seconds=recorded_seconds(job), was_finished=True))
            continue
        tasks.append(Task(rest, log))
        if file_in_the_way(plan.output):  # which has been said
            continue
        for path in (log, *(run.folder / "results.json" for run in rest.runs)):
            if why := unwritable(path):
                problems.add(f"{why}; choose another --output", rest)
    return tasks


def unwritable(path: Path) -> str:
    """Why a file cannot be written, or made; "" if it can."""
    if path.is_dir():
        return f'"{path}" is a folder, where a file is to be written'
    place = next(place for place in (path, *path.parents) if place.exists())
    if place != path and not place.is_dir():
        return f'"{place}" is a file, where a folder is to be made'
    return "" if os.access(place, os.W_OK) else f'"{place}" cannot be written'


@one_line_errors("the same command goes on from here")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all done, 1 something failed, 2 a user's mistake, 130 interrupted."""
    logger = logging.getLogger("runner")  # not the root's: submitit shows its own messages
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    args = parse_args(argv)
    problems = Problems()
    output = output_folder(args, problems)
    from train import choose_dassl

    choose_dassl()
    plan, missing = make_plan(args, output, problems)
    tasks = make_tasks(plan, problems) if plan.trainers else []
    todo = [task for task in tasks if task.status == "waiting"]
    slots = find_slots(args, len(todo), problems)
    draws = args.protocol == "demo" and any(task.job.dataset == DRAWN for task in todo)
    undrawn = draws and look_for_drawn(plan.root, problems)
    if todo:
        from runner.preflight import check_jobs

        jobs = [task.job for task in todo]
        on_gpus = bool(args.gpus) and args.launcher == "local"
        unread = {*missing, *[DRAWN] * undrawn}
        check_jobs(jobs, problems, on_gpus=on_gpus, fetch=not args.dry_run, unread=unread)
    if problems:
        return problems.report()
    if args.dry_run:
        for command in [draw_command(plan.root)] * undrawn + [Job.command(task.job) for task in todo]:
            print(shlex.join(command), flush=True)
        say_plan(args, plan, tasks, slots)
        say_missing(missing, plan.root)
        return 0
    if draws:
        draw_demo(plan.root)
    if undrawn:  # what its jobs would find wrong with these pictures
        check_jobs(jobs, problems, on_gpus=on_gpus, fetch=False)
        if problems:
            return problems.report()
    return run(args, plan, tasks, missing, slots)


def find_slots(args: argparse.Namespace, jobs: int, problems: Problems) -> list[Slot]:
    """Where jobs run on this machine; none where Slurm runs them.

    That there is no such place, or that the arguments contradict each other, is added to ``problems``.
    """
    if args.launcher == "slurm":
        from runner.slurm import parse_resources

        with problems.noting():
            parse_resources(args.slurm)
        if args.gpus:
            problems.add("--gpus names GPUs of this machine; with --launcher slurm: --slurm gpus_per_node=1")
        return []
    if args.slurm:
        problems.add("--slurm needs --launcher slurm")
    with problems.noting():
        return gpu_slots(args.gpus, jobs) if args.gpus else cpu_slots(args.jobs, jobs)
    return []


def say_plan(args: argparse.Namespace, plan: Plan, tasks: Sequence[Task], slots: Sequence[Slot]) -> None:
    """What a dry run says on stderr: how many jobs, on what, how long, and what Slurm would be asked for."""
    todo = [task for task in tasks if task.status == "waiting"]
    methods = Counter(task.job.trainer for task in todo)
    datasets = dict.fromkeys(task.job.dataset for task in todo)
    before = len(tasks) - len(todo)
    lines = [
        f"{len(todo)} {'job' if len(todo) == 1 else 'jobs'} to do, {before} of {len(tasks)} are finished"
    ]
    if todo:
        lines[0] += f": {', '.join(f'{name} {number}' for name, number in methods.items())}"
        lines.append(f"data sets: {', '.join(datasets)}; seeds: {', '.join(map(str, plan.seeds))}")
        lines.append(f"how long: {describe_time(tasks, len(slots) or 1)}")
    if args.launcher == "slurm":
        from runner.slurm import describe_request

        lines += describe_request(todo, args.slurm)
    elif slots:
        lines.append(f"where: {describe_slots(slots)}")
    print("\n".join(lines), file=sys.stderr)


def describe_time(tasks: Sequence[Task], slots: int) -> str:
    """The time that a plan takes by its finished jobs."""
    seconds, is_all = time_left(tasks, slots)
    if not seconds:
        return "not known, no job of these kinds (method, data set) is finished"
    how = "about" if is_all else "more than"
    return f"{how} {clock(seconds)} by the finished jobs of the same kinds (method, data set)"


def describe_slots(slots: Sequence[Slot]) -> str:
    """``one job at a time on each of GPU 0, GPU 1``."""
    import torch

    if slots[0].name:
        return f"one job at a time on each of {', '.join(slot.name for slot in slots)}"
    device = "the GPU" if torch.cuda.is_available() else "the CPU"
    return f"{len(slots)} {'job' if len(slots) == 1 else 'jobs'} at a time on {device}"


def run(
    args: argparse.Namespace, plan: Plan, tasks: list[Task], missing: dict[str, str], slots: list[Slot]
) -> int:
    """Does the tasks and says how it went."""
    todo = [task for task in tasks if task.status == "waiting"]
    display = Display(tasks, len(slots) or len(todo))
    if args.launcher == "slurm":
        from runner.slurm import ClusterScheduler, parse_resources

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
    if table := show_methods(plan, width):
        command = shlex.join(["python", str(ROOT / "parse_test_res.py"), str(results_folder(plan))])
        print(f"\n{table}\nbeside published numbers: {command}")
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
        print(remedy(missing, root), file=sys.stderr)
