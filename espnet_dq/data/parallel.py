"""The same work on many files, in several processes, with progress shown."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import batched

from tqdm import tqdm

from espnet_dq.errors import WorkError

CHUNK = 16  # jobs that a process is handed at a time, at most
AHEAD = 4  # chunks for each process that are asked for before the first of them is used


def parallel_map[Job, Result](
    work: Callable[[Job], Result], jobs: Iterable[Job], total: int, nj: int, what: str
) -> Iterator[Result]:
    """Yield `work(job)` of all jobs, computed in `nj` processes, in order, with a bar on stderr.

    Jobs and results may be millions: only as many are in memory as there is work for.

    Args:
        work: A module's function; what it raises ends the whole.
        jobs: Its arguments.
        total: How many there are.
        nj: Processes; with 1 all is done in this one.
        what: Name of the bar.

    Raises:
        WorkError: A worker was killed, as happens when memory runs out.
    """
    with tqdm(total=total, desc=what, unit="file", mininterval=1.0) as bar:
        for result in _results(work, jobs, total, nj, what):
            bar.update()
            yield result


def _results[Job, Result](
    work: Callable[[Job], Result], jobs: Iterable[Job], total: int, nj: int, what: str
) -> Iterator[Result]:
    if nj == 1 or total < 2:
        yield from map(work, jobs)
        return
    # Some long recordings must not go to one process.
    chunks = batched(jobs, min(CHUNK, 1 + total // (4 * nj)))
    # Not by fork: this process may have torch's threads.
    context = multiprocessing.get_context("forkserver")
    asked: deque[Future[list[Result]]] = deque()
    try:
        with ProcessPoolExecutor(min(nj, total), mp_context=context) as pool:
            for chunk in chunks:
                asked.append(pool.submit(_each, work, chunk))
                if len(asked) > AHEAD * nj:
                    yield from asked.popleft().result()
            while asked:
                yield from asked.popleft().result()
    except BrokenProcessPool as e:
        raise WorkError(f"{what}: a worker process was killed; try a smaller --nj") from e


def _each[Job, Result](work: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
    return [work(job) for job in jobs]
