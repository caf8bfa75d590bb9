"""Register everything with ESPnet, under the name `dq_whisper`; nothing else does.

ESPnet has no entry points for plug-ins: its choices are module-level dicts, read when a parser
is built, and its tokenizer factory is a fixed list of names.
"""

import re
from argparse import Namespace
from functools import wraps

from espnet_dq.errors import WorkError


def register() -> None:
    """Make encoder, decoder, model, preprocessor and tokenizer `dq_whisper` known to ESPnet.

    Must come before `espnet2.bin.asr_inference` is imported, which binds the tokenizer factory
    by name. Calling it again changes nothing.
    """
    import espnet2.tasks.asr as asr
    import espnet2.text.build_tokenizer as factory
    import espnet2.text.token_id_converter as converter

    from espnet_dq.task import archives
    from espnet_dq.task.decoder import DQWhisperDecoder
    from espnet_dq.task.encoder import DQWhisperEncoder
    from espnet_dq.task.model import DQWhisperModel
    from espnet_dq.task.preprocessor import DQWhisperPreprocessor
    from espnet_dq.task.tokenizer import NAME, DQTokenIDConverter, DQWhisperTokenizer
    from espnet_dq.task.trainer import DQTrainer

    asr.encoder_choices.classes[NAME] = DQWhisperEncoder
    asr.decoder_choices.classes[NAME] = DQWhisperDecoder
    asr.model_choices.classes[NAME] = DQWhisperModel
    asr.preprocessor_choices.classes[NAME] = DQWhisperPreprocessor

    asr.ASRTask.main_worker = staticmethod(main_worker)
    asr.ASRTask.trainer = DQTrainer
    archives.register()

    if getattr(factory.build_tokenizer, "knows_dq_whisper", False):
        return
    build_tokenizer = factory.build_tokenizer

    @wraps(build_tokenizer)
    def build(token_type, bpemodel=None, *args, **kwargs):
        if bpemodel == NAME:
            return DQWhisperTokenizer()
        return build_tokenizer(token_type, bpemodel, *args, **kwargs)

    build.knows_dq_whisper = True
    factory.build_tokenizer = build
    converter.TokenIDConverter = DQTokenIDConverter


def main_worker(args: Namespace) -> None:
    """ESPnet's worker, for `ASRTask`: registers first.

    With several GPUs ESPnet spawns children that import what their target names and nothing
    else; this function is that target, so registration reaches them.
    """
    register()
    import torch.distributed as dist
    from espnet2.tasks.abs_task import AbsTask
    from espnet2.tasks.asr import ASRTask

    try:
        AbsTask.main_worker.__func__(ASRTask, args)
    except RuntimeError as e:
        lost = re.search(r"Connection (closed|reset|refused)|Broken pipe", str(e))
        if not lost or getattr(args, "dist_world_size", None) in (None, 1):
            raise
        raise WorkError(
            f"process {args.dist_rank} of {args.dist_world_size} has lost another one, which has "
            f"ended ({lost[0]}); the same command goes on from the last finished epoch"
        ) from e
    # Threads of a group that is still there when Python ends can abort a process that is done.
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
