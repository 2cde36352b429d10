"""Many independent tasks: in this process, in local processes, or over the machines of a Ray cluster.

A task writes one file under a temporary name and renames it, so that a run that stops can be repeated: what is there is
not made again (the callers leave such tasks out).
"""

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import cv2
from tqdm import tqdm

from ...models.errors import UserError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_tasks(
    function: Callable, tasks: Sequence, workers: int = 2, ray_address: str | None = None, bar: tqdm | None = None
) -> None:
    """Call `function(task)` for every task, in any order; results are dropped.

    Args:
        function: importable by name on every machine.
        workers: local processes of one thread each; 1 works in this process. Not used with Ray, which takes a core a task.
        ray_address: address of a running Ray cluster (`auto` finds the one this machine belongs to), or None. All machines
            must have the pack installed and see the files' folder under the same path.
        bar: moved by one with every finished task.

    Raises:
        UserError: an address was given but Ray is not installed; a local process was killed.
        Exception: whatever a task raised first; finished tasks stay done.
    """
    if ray_address is not None:
        _run_on_ray(function, tasks, ray_address, bar)
    elif workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            function(task)
            _moved(bar)
    else:
        _run_in_processes(function, tasks, workers, bar)


def _moved(bar: tqdm | None) -> None:
    if bar is not None:
        bar.update()


def _run_in_processes(function: Callable, tasks: Sequence, workers: int, bar: tqdm | None) -> None:
    # The variables must be set before a worker loads numpy: hence spawn, not fork.
    saved = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(saved, "1"))
    try:
        # An executor, not a Pool: a Pool whose process is killed waits for its answer for ever.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            try:
                for future in as_completed([pool.submit(function, task) for task in tasks]):
                    future.result()
                    _moved(bar)
            except BrokenProcessPool:
                raise UserError(
                    "A worker process was killed, most often because memory ran out. What it had finished is kept: "
                    "run the same command again with fewer --workers."
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_on_ray(function: Callable, tasks: Sequence, address: str, bar: tqdm | None) -> None:
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "--ray needs the package ray, which is not installed: `pip install ray` on every machine, or leave --ray out "
            "to use local processes."
        )
    import ray

    ray.init(
        address=address,
        runtime_env={"env_vars": dict.fromkeys(_THREAD_VARIABLES, "1")},
        ignore_reinit_error=True,
        log_to_driver=False,
    )
    # A machine that is lost gives its task to another; a task that raises does so again, and is not tried twice.
    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    waiting = [remote.remote(task) for task in tasks]
    while waiting:
        done, waiting = ray.wait(waiting)
        ray.get(done)
        for _ in done:
            _moved(bar)
