"""The same work on many files, in several processes, with progress shown."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from tqdm import tqdm

from espnet_dq.errors import WorkError


def parallel_map[Job, Result](
    work: Callable[[Job], Result], jobs: Sequence[Job], nj: int, what: str
) -> list[Result]:
    """`[work(job) for job in jobs]` in `nj` processes, in order, with a bar on stderr.

    Args:
        work: A module's function; what it raises ends the whole.
        jobs: Its arguments.
        nj: Processes; with 1 all is done in this one.
        what: Name of the bar.

    Raises:
        WorkError: A worker was killed, as happens when memory runs out.
    """
    progress = partial(tqdm, total=len(jobs), desc=what, unit="file", mininterval=1.0)
    chunk = min(16, 1 + len(jobs) // (4 * nj))  # some long recordings must not go to one process
    if nj == 1 or len(jobs) < 2:
        return [work(job) for job in progress(jobs)]
    # Not by fork: this process may have torch's threads.
    context = multiprocessing.get_context("forkserver")
    try:
        with ProcessPoolExecutor(min(nj, len(jobs)), mp_context=context) as pool:
            results = pool.map(work, jobs, chunksize=chunk)
            return list(progress(results))
    except BrokenProcessPool as e:
        raise WorkError(f"{what}: a worker process was killed; try a smaller --nj") from e
