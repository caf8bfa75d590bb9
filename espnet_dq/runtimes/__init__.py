"""The runtimes that decode, behind one small interface.

Every runtime sees each clip padded to Whisper's 30 s window, unless it is told to hear no more than
the clip (`context`), and decodes greedily by default:
temperature 0, no text from before, no timestamp tokens, no voice activity detection. Longer audio
is cut into clips before, at pauses (`espnet_dq.data.pieces`). `transcribe`, which is for people and
not for scores, tries at random again what went wrong.

How the work is spread was measured (two cores, base, 60 clips): the encoder takes 5/6 of the time
and gains nothing from a batch in CTranslate2, so faster-whisper decodes one clip in each of
`nj` workers; PyTorch takes `nj` clips of one language as a batch.
"""

from pathlib import Path
from pkgutil import resolve_name

from espnet_dq import jobs
from espnet_dq.config import check_whole, known
from espnet_dq.data.names import text_fault
from espnet_dq.data.unfit import has_special_token
from espnet_dq.errors import InputError, check_kind, shown
from espnet_dq.fetch.names import source_path
from espnet_dq.formats.detect import detect
from espnet_dq.formats.registry import FORMATS
from espnet_dq.reading import check_native
from espnet_dq.runtimes.interface import CONTEXTS, TASKS, WINDOW, Runtime, Segment

__all__ = ["RUNTIMES", "WINDOW", "Runtime", "Segment", "guess_runtime", "load_runtime"]

# Name -> its class, or where that is, since each imports much. Another one is added here.
RUNTIMES: dict[str, str | type[Runtime]] = {
    "torch": "espnet_dq.runtimes.torch:Torch",
    "faster-whisper": "espnet_dq.runtimes.ctranslate2:FasterWhisper",
    "whisper.cpp": "espnet_dq.runtimes.ggml:WhisperCpp",
    "transformers": "espnet_dq.runtimes.transformers:Transformers",
    "onnx": "espnet_dq.runtimes.onnx:OnnxRuntime",
}
# No machine has more cores, and of tens of thousands of threads runtimes crash. A wider beam takes
# minutes for a clip.
MOST_THREADS, MOST_BEAMS = 1024, 100


def guess_runtime(path: Path | str) -> str:
    """That of the format of a file or a folder; `torch` for what is none, as an experiment."""
    try:
        return FORMATS[detect(path)].decoder(Path(path))
    except InputError:
        return "torch"


def load_runtime(
    name: str | None,
    path: Path | str,
    threads: int = 0,
    nj: int = 0,
    beam_size: int = 1,
    *,
    context: str = "full",
    task: str = "transcribe",
    words: bool = False,
    prompt: str = "",
) -> Runtime:
    """Load a model into a runtime.

    Args:
        name: a key of `RUNTIMES`; None: `guess_runtime`'s.
        path: `openai:tiny` and the like as `espnet_dq.fetch.names` takes them. `torch`: a `.pt`,
            ggml or packed file, or an experiment folder or a checkpoint (`.pth`) in one, whose
            model is decoded as it was trained, with its fake quantization and its padding.
            `faster-whisper`: a CTranslate2 folder. `whisper.cpp`: a ggml file. `transformers`: a
            Hugging Face folder. `onnx`: an ONNX folder of ours.
        threads: CPU threads in all; 0 takes every core, or as many as `OMP_NUM_THREADS` says.
        nj: clips at a time; 0 takes one for each thread (faster-whisper) or 8 (torch,
            transformers, onnx). whisper.cpp decodes one.
        beam_size: 1 is greedy.
        context: `full`: the model's whole window for each clip. `short`: as little as the clip
            needs, which is faster; a Whisper that was not trained for it may go round in circles.
            `auto`: `short` for a model that says that it was (`Weights.any_window`).
        task: `transcribe`, or `translate` into English.
        words: whether `transcribe` tells times and probabilities of words, which takes longer.
        prompt: what the model takes for said before each window: names, and how they are spelled.

    Raises:
        InputError: the path does not hold a model that this runtime reads, or the runtime or the
            model cannot do what is asked for.
        WorkError: a name whose model cannot be fetched.
    """
    check_whole("threads", threads, 0, MOST_THREADS)
    check_whole("nj", nj, 0, MOST_THREADS)
    check_whole("beam_size", beam_size, 1, MOST_BEAMS)
    check_kind("prompt", prompt, str, "a text")
    if has_special_token(prompt):
        raise InputError(f"prompt: {shown(prompt)}: holds a special token, no text")
    if fault := text_fault(prompt):
        raise InputError(f"prompt: {shown(prompt)}: {fault}")
    path = source_path(path)
    name = name or guess_runtime(path)
    known("runtime", name, RUNTIMES)
    runtime = RUNTIMES[name]
    if isinstance(runtime, str):
        runtime = resolve_name(runtime)
    if name != "torch":  # which reads by our own loaders
        check_native(path)
    known("context", context, CONTEXTS)
    known("task", task, TASKS)
    engine = runtime(path, threads or jobs.threads(), nj, beam_size)
    short = context == "short"
    if context == "auto" and getattr(engine, "short", None) is not None:
        short = engine.any_window
    translates = task != "transcribe"
    for attribute, wanted, value, cannot in (
        ("short", short, True, "always hears whole windows (context short)"),
        ("task", translates, task, f"cannot {task}"),
        ("words", words, True, "tells nothing of words: faster-whisper and torch do"),
        ("prompt", prompt != "", prompt, "takes no prompt"),
    ):
        if wanted and getattr(engine, attribute, None) is None:
            raise InputError(f"{name} {cannot}")
        if wanted:
            setattr(engine, attribute, value)
    if translates and len(engine.languages) == 1:
        raise InputError(f"task {task}: {path} knows one language only")
    return engine
