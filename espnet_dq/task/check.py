"""Whether ESPnet's trainer takes a configuration, asked before hours of other work."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from whisper.model import ModelDimensions

from espnet_dq.errors import DQError, InputError
from espnet_dq.task.plugin import register
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.vocabulary import numbers


def check_config(
    path: Path, student: ModelDimensions, teacher: ModelDimensions, grid: str | Mapping[str, str]
) -> None:
    """Build model, optimizer and schedulers as training will; no data and no weights are read.

    Args:
        path: a training configuration, as for `--train_config` of the recipe.
        student, teacher: their sizes.
        grid: weight grid, or a table of weights to grids.

    Raises:
        InputError: a key or a value that something of that refuses, in one line with its words.
    """
    said = io.StringIO()
    with TemporaryDirectory() as scratch, contextlib.redirect_stderr(said):
        register()
        from espnet2.tasks.asr import ASRTask

        tokens = Path(scratch) / "tokens.txt"
        tokens.write_text("\n".join(token_list(student)) + "\n", encoding="utf-8")
        ours, theirs = numbers(student), numbers(teacher)
        try:
            ASRTask.main(
                cmd=["--config", str(path), "--dry_run", "true", "--output_dir", scratch,
                     "--log_level", "ERROR", "--token_list", str(tokens), "--token_type", "bpe",
                     "--bpemodel", "dq_whisper", "--encoder_conf", f"dims={ours}",
                     "--decoder_conf", f"dims={ours}", "--model_conf", "teacher=unread.pt",
                     "--model_conf", f"teacher_dims={theirs}",
                     "--model_conf", f"grid={grid}"]
            )  # fmt: skip
        except SystemExit:
            last = said.getvalue().strip().splitlines()[-1]
            raise InputError(f"{path}: {last.partition('error: ')[2] or last}") from None
        except DQError as e:
            raise InputError(f"{path}: {e}") from e
        except Exception as e:  # whatever the classes that it names make of their arguments
            said_of_it = ": ".join([type(e).__name__, *str(e).splitlines()[:1]])
            raise InputError(f"{path}: {said_of_it}") from e
