"""What goes round in circles when it is decoded greedily, for scores, does not in a transcript."""

import pytest
import torch

from espnet_dq.decode import guard
from espnet_dq.formats.write import write
from espnet_dq.runtimes import guess_runtime, load_runtime
from espnet_dq.runtimes.interface import Attempt, Hypothesis, settle
from espnet_dq.whisper.weights import Weights
from tests.toys import END, noise

FILES = {"openai": "toy.pt", "ct2": "ct2", "ggml": "toy.bin", "hf": "hf", "onnx": "onnx"}
WORDS = slice(1000, 1032)


@pytest.fixture(scope="module")
def folder(make_toy, tmp_path_factory):
    """A model that expects 32 words at each position, one of them most, and ends at the 24th."""
    model = make_toy(0, 64, 1)
    with torch.no_grad():
        tokens, positions = (
            model.decoder.token_embedding.weight,
            model.decoder.positional_embedding,
        )
        tokens *= 0.05
        tokens[WORDS], tokens[END] = 8 * torch.eye(32, 64), 8 * torch.eye(64)[40]
        positions.copy_((20 * tokens[WORDS]).sum(0))
        positions += 2 * tokens[WORDS.start + 2]  # " world"
        positions[24:] = 20 * tokens[END]
    path = tmp_path_factory.mktemp("loops")
    for form, file in FILES.items():
        floats = "float16" if form == "ggml" else "float32"
        write(form, path / file, Weights(model.dims, model.state_dict()), {}, floats)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", FILES)
def test_a_loop_is_left_by_default_and_always_in_the_same_way(form, folder):
    path = folder / FILES[form]
    one, other = (load_runtime(guess_runtime(path), path, threads=1, nj=1) for _ in range(2))
    audio = noise(2, 0)
    (greedy,) = one.decode([audio], "it")
    assert len(set(greedy.text.split())) < 4 < 20 <= len(greedy.text.split())
    (segment,) = one.transcribe(audio, "it", timestamps=False)
    assert len(set(segment.text.split())) > 4
    other.transcribe(noise(1, 1), "it", timestamps=False)  # what was drawn before does not matter
    assert other.transcribe(audio, "it", timestamps=False) == [segment]
    assert one.decode([audio], "it") == [greedy]
    # With the guard, greedy decoding leaves it, too; the words have the time that they need.
    (guarded,) = guard.decode(one, [noise(4, 0)], "it")
    assert guarded.guard == "again" and len(set(guarded.text.split())) > 4


@pytest.mark.parametrize(
    ("said", "text", "tried"),
    [
        ([("good", -0.3, 0.9)], "good", 1),  # sure of the words: somebody speaks
        ([("you", -1.5, 0.9)], "", 1),
        ([("A-" * 50, -0.1, 0.9), ("a word", -0.9, 0.0)], "a word", 2),
        ([("unsure", -1.1, 0.5), ("sure", -1.0, 0.5)], "sure", 2),
        ([("A-" * 50, -0.1, 0.0)] + [("x", -1.5, 0.0), ("y", -1.2, 0.0)] * 2, "y", 6),
        ([("A-" * 50, -0.1, 0.0), *[("B-" * 50, -0.2, 0.0)] * 5], "A-" * 50, 6),
    ],
)
def test_what_is_tried_again(said, text, tried):
    temperatures = []

    def attempt(temperature):
        temperatures.append(temperature)
        return Attempt(*said[min(len(temperatures), len(said)) - 1])

    assert settle(attempt) == Hypothesis(text)
    assert temperatures == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0][:tried]
