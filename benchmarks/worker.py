"""One side of a comparison in a process of its own, so that peak memory and allocator settings are its own.

``python -m benchmarks.worker '<json>'`` answers each line of its input with one line of JSON: ``run`` with
seconds, ``products`` with a rate, ``result`` with what the last run computed, ``peak`` with bytes.
"""

import json
import os
import resource
import sys
import time
from typing import Any


def main(side: str, device: str, work: dict[str, Any]) -> None:
    """Serves until its input ends."""
    if side != "published":
        from runner.process import set_up_process

        set_up_process()  # as train.py does
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    import torch

    from benchmarks.sides import Work, compute_type, make

    place = torch.device(device)
    wanted = Work(**work)
    run, result = make(side, wanted, place), None
    dtype = compute_type(side, place)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    answer(operations=wanted.operations(), threads=torch.get_num_threads())
    for line in sys.stdin:
        request = line.strip()
        if request == "run":
            wait(place)
            start, cpu = time.perf_counter(), time.process_time()
            result = run()
            wait(place)
            answer(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu)
        elif request == "products":
            answer(rate=product_rate(dtype, place, wanted))
        elif request == "result":
            answer(result=result.float().flatten().tolist())
        elif request == "peak":
            answer(bytes=peak(place))


def wait(device: Any) -> None:
    """Until the device has done what was asked of it."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(device: Any) -> int:
    """Most bytes ever in use: of the process on a CPU, of its tensors on a GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def product_rate(dtype: Any, device: Any, work: Any) -> float:
    """Operations a second of the largest product of the image tower's MLP: the machine's own measure."""
    import torch

    tokens, width = work.sizes.image_tokens * work.images, work.sizes.image_width
    a = torch.randn(tokens, width, device=device, dtype=dtype)
    b = torch.randn(4 * width, width, device=device, dtype=dtype)
    repeats = 3 if device.type == "cpu" else 50
    torch.nn.functional.linear(a, b)
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.nn.functional.linear(a, b)
    wait(device)
    return repeats * 2 * tokens * width * 4 * width / (time.perf_counter() - start)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
