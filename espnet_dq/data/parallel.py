"""The same work on many files, in other processes, with progress shown.

Decoders of audio are C code that a file can crash, and a long one can take all memory. So nothing
is done in this process, be it one file at a time: a worker that ends costs the job that it was at.
"""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import batched
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.popen_forkserver import Popen
from multiprocessing.process import BaseProcess
from threading import Lock

from tqdm import tqdm

from espnet_dq.errors import one_line

CHUNK = 16  # jobs that a process is handed at a time, at most
AHEAD = 4  # chunks for each process that are asked for before the first of them is used
DIED = "the process that read it crashed, or was killed, as happens when memory runs out"


def parallel_map[Job, Result](
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    total: int,
    nj: int,
    what: str,
    died: Callable[[Job], Result],
) -> Iterator[Result]:
    """Yield `work(job)` of all jobs, computed in `nj` processes, in order, with a bar on stderr.

    Jobs and results may be millions: only as many are in memory as there is work for.

    Args:
        work: A module's function; what it raises ends the whole, but for `MemoryError` and
            `SystemExit`, which end the worker.
        jobs: Its arguments.
        total: How many there are.
        nj: Processes.
        what: Name of the bar.
        died: What stands for the result of a job that ends its worker when it is alone with it.
    """
    if not total:
        return
    size = min(CHUNK, 1 + total // (4 * nj))  # some long recordings must not go to one process
    workers = _Workers(work, min(nj, total), died)
    try:
        with tqdm(total=total, desc=one_line(what), unit="file", mininterval=1.0) as bar:
            for chunk in batched(jobs, size):
                workers.ask(chunk)
                if len(workers.asked) > AHEAD * nj:
                    for result in workers.take():
                        bar.update()
                        yield result
            while workers.asked:
                for result in workers.take():
                    bar.update()
                    yield result
    finally:
        workers.close()


@dataclass
class _Asked[Job, Result]:
    jobs: tuple[Job, ...]
    future: Future[list[Result]]


class _Workers[Job, Result]:
    """Processes that work on chunks of jobs; when one dies, others take their place."""

    def __init__(
        self, work: Callable[[Job], Result], count: int, died: Callable[[Job], Result]
    ) -> None:
        self.work, self.count, self.died = work, count, died
        self.asked: deque[_Asked[Job, Result]] = deque()
        self.pool, self.single = _pool(count, work), None

    def ask(self, jobs: tuple[Job, ...]) -> None:
        self.asked.append(_Asked(jobs, self._submit(jobs)))

    def take(self) -> list[Result]:
        """The results of the oldest chunk that was asked for."""
        wait([self.asked[0].future])
        if _is_lost(self.asked[0].future):
            self._mend()
        return self.asked.popleft().future.result()

    def close(self) -> None:
        for pool in (self.pool, self.single):
            if pool:
                pool.shutdown(cancel_futures=True)

    def _submit(self, jobs: tuple[Job, ...]) -> Future[list[Result]]:
        try:
            return self.pool.submit(_each, self.work, jobs)
        except BrokenProcessPool as e:
            lost: Future[list[Result]] = Future()
            lost.set_exception(e)
            return lost

    def _mend(self) -> None:
        """Do again what was lost with the pool, what may have broken it one by one."""
        self.pool.shutdown()
        lost = [asked for asked in self.asked if _is_lost(asked.future)]
        # So many chunks can have been with the workers: one each, and one on its way.
        for asked in lost[: self.count + 1]:
            asked.future = self._one_by_one(asked.jobs)
        self.pool = _pool(self.count, self.work)
        for asked in lost[self.count + 1 :]:
            asked.future = self._submit(asked.jobs)

    def _one_by_one(self, jobs: tuple[Job, ...]) -> Future[list[Result]]:
        results, future = [], Future()
        for job in jobs:
            self.single = self.single or _pool(1, self.work)
            try:
                results += self.single.submit(_each, self.work, (job,)).result()
            except BrokenProcessPool:
                self.single.shutdown()
                self.single = None
                results.append(self.died(job))
            except Exception as e:  # of the work: whoever takes the results gets it
                future.set_exception(e)
                return future
        future.set_result(results)
        return future


_STARTING = Lock()  # one process at a time


class _Process(ForkServerProcess):
    """A worker that does not run the script again which is running here.

    As multiprocessing has it, that of somebody who calls us without `if __name__ == "__main__"`
    would begin anew in each worker, and wait for what the first has locked.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # multiprocessing calls it so
        script = vars(sys.modules["__main__"])
        with _STARTING:
            names = {name: script[name] for name in ("__spec__", "__file__") if name in script}
            script.update(dict.fromkeys(names))  # by which workers would find it
            try:
                return ForkServerProcess._Popen(process_obj)
            finally:
                script.update(names)


class _WithoutScript(ForkServerContext):
    Process = _Process


def _pool(count: int, work: Callable) -> ProcessPoolExecutor:
    # Not by fork: this process may have torch's threads.
    function = work.func if isinstance(work, partial) else work
    own = function.__module__ != "__main__"  # else workers need the script
    context = _WithoutScript() if own else multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["espnet_dq.data.cut"])  # once, not in each worker
    return ProcessPoolExecutor(count, mp_context=context)


def _is_lost(future: Future) -> bool:
    """Whether a future ended with its pool."""
    return future.done() and isinstance(future.exception(), BrokenProcessPool)


def _each[Job, Result](work: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
    try:
        return [work(job) for job in jobs]
    except (SystemExit, MemoryError):
        os._exit(1)  # as when it is killed: the executor would end the whole with it
