"""A toy corpus and a toy recipe for ESPnet's own commands."""

import subprocess
from pathlib import Path

import pytest
import torch

from espnet_dq.task.plugin import register
from tests.task.toy_recipe import TEXTS, Recipe, make_corpus

DEADLINE = 300  # seconds, of a run of toys: processes that wait for each other would wait for ever


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Six utterances of noise with texts in five languages."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def build(save_toy):
    """Function (**model_conf) -> DQWhisperModel with toy student and teacher, weights loaded.

    `student` and `teacher` may be other `.pt` files; `checkpointing` is that of both halves;
    `specaug` a module.
    """
    register()
    from espnet2.asr.ctc import CTC

    from espnet_dq.formats.openai import read as openai
    from espnet_dq.task.decoder import DQWhisperDecoder
    from espnet_dq.task.encoder import DQWhisperEncoder
    from espnet_dq.task.model import DQWhisperModel
    from espnet_dq.task.tokenizer import token_list
    from espnet_dq.whisper.vocabulary import numbers

    own = save_toy(seed=0)
    heard = save_toy(seed=1, state=32, layers=3, mels=128)  # as large-v3 hears
    heard_dims = torch.load(heard, weights_only=True)["dims"]

    def make(window="batch", load=True, student=None, checkpointing=False, specaug=None, **conf):
        student = openai.load(student or own)
        dims, size = numbers(student.dims), student.dims.n_vocab
        conf = {
            "teacher": str(heard),
            "teacher_dims": heard_dims,
            "preset": "none",
            **conf,
        }
        saving = {"checkpointing": checkpointing}
        encoder = DQWhisperEncoder(dims=dims, window=window, **saving)
        decoder = DQWhisperDecoder(size, encoder.output_size(), dims=dims, **saving)
        model = DQWhisperModel(
            size, token_list(student.dims), None, specaug, None, None, encoder, None, decoder,
            CTC(size, encoder.output_size()), None, **conf,
        )  # fmt: skip
        if load:
            state = model.state_dict()
            for name, value in student.state.items():
                state[name.replace(".", ".net.", 1)] = value
            model.load_state_dict(state)
        return model

    return make


@pytest.fixture
def masks():
    """ESPnet's: 9 bands and 20 frames of each utterance."""
    from espnet2.asr.specaug.specaug import SpecAug

    return SpecAug(
        apply_time_warp=False,
        freq_mask_width_range=(9, 10),
        num_freq_mask=1,
        time_mask_width_range=(20, 21),
        num_time_mask=1,
    )


@pytest.fixture
def batch():
    """Three utterances of noise, of three languages and lengths."""
    torch.manual_seed(0)
    lengths = torch.tensor([16000, 12000, 9600])
    return {
        "speech": torch.randn(3, 16000) * 0.05 * (torch.arange(16000) < lengths[:, None]),
        "speech_lengths": lengths,
        "text": torch.tensor([[50, 60, 70, 80], [30, 40, -1, -1], [90, -1, -1, -1]]),
        "text_lengths": torch.tensor([4, 2, 1]),
        "lang": torch.tensor([[50259], [50263], [50262]]),
        "utt_id": ["a", "b", "c"],
    }


@pytest.fixture(scope="session")
def trimmed(save_toy, trim) -> Path:
    """A student with the tokens of some texts only; it spells the others."""
    return trim(save_toy(seed=0), TEXTS[:2])


@pytest.fixture(scope="session")
def train(corpus, trimmed, save_toy, tmp_path_factory):
    """Function (out, *options, **model_conf) that runs stock `espnet2.bin.asr_train`.

    A trimmed student learns from a teacher of 100 languages. `launch` comes before the command.
    """
    teacher = save_toy(seed=1, state=32, layers=3, n_vocab=51866)
    recipe = Recipe(tmp_path_factory.mktemp("recipe"), corpus, trimmed, teacher)

    def run(
        out: Path, *options: str, log: str = "log", launch: tuple[str, ...] = (), **given
    ) -> Path:
        done = subprocess.run(
            [*launch, *recipe.command(out, *options, **given)],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        (out / log).write_text(done.stderr)
        assert done.returncode == 0, done.stderr[-2000:]
        return out

    return run
