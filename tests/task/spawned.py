"""`espnet2.bin.asr_train --ngpu 2` on a machine without GPUs: only the device is another.

ESPnet's own code starts the children, as for two GPUs, and they train on the CPU.
"""

from argparse import Namespace


def worker(args: Namespace) -> None:
    """The target of the children, which begin with nothing imported."""
    args.ngpu = 0
    from espnet_dq.task.plugin import main_worker

    main_worker(args)


if __name__ == "__main__":
    from espnet2.bin.asr_train import main
    from espnet2.tasks.asr import ASRTask

    from tests.task import spawned

    ASRTask.main_worker = staticmethod(spawned.worker)
    main()
