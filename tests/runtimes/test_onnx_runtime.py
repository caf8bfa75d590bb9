"""ONNX Runtime says what openai-whisper says of the same weights."""

import numpy as np
import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import read_scp
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError
from espnet_dq.formats.onnx import read as onnx_reader
from espnet_dq.formats.onnx import write as onnx_writer
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.write import write
from espnet_dq.runtimes import guess_runtime, load_runtime
from espnet_dq.whisper.weights import Weights


@pytest.fixture
def toy(toy_models, tmp_path):
    """Runtime -> one and the same small model."""
    onnx_writer.save(tmp_path / "onnx", openai.load(toy_models["torch"]), {}, float_dtype="float32")
    return {"torch": toy_models["torch"], "onnx": tmp_path / "onnx"}


@pytest.fixture(scope="module")
def tiny(weights_dir, tmp_path_factory):
    """Runtime -> the real tiny."""
    folder = tmp_path_factory.mktemp("tiny")
    weights = openai.load(weights_dir / "tiny.pt")
    # In floats: on onnx_int8 the graph also rounds what it multiplies by, and torch does not.
    write("openai", folder / "tiny.pt", weights, {}, "float16")
    write("onnx", folder / "onnx", weights, {}, "float16")
    return {
        name: load_runtime(name, folder / file, threads=1)
        for name, file in (("torch", "tiny.pt"), ("onnx", "onnx"))
    }


@pytest.mark.slow
def test_real_clips(tiny, clips):
    texts = {}
    for name, runtime in tiny.items():
        texts[name] = [
            said.text
            for language in ("en", "ru")
            for said in runtime.decode(
                [load_audio(path) for path, lang, _ in clips if lang == language], language
            )
        ]
    assert all(texts["torch"]) and len(texts["torch"]) == 3
    assert texts["onnx"] == texts["torch"]


def test_timestamps_and_language_detection(tiny, clips):
    """Through openai-whisper's own transcribe."""
    audio = [load_audio(path) for path, language, _ in clips if language == "en"]
    audio = np.concatenate([audio[0], np.zeros(12 * SAMPLE_RATE, np.float32), audio[1]])
    found = {name: runtime.transcribe(audio, "en", True) for name, runtime in tiny.items()}
    assert found["onnx"] == found["torch"] and found["onnx"][-1].start > 12
    (language, sure), theirs = (tiny[name].detect(audio) for name in ("onnx", "torch"))
    assert language == theirs[0] == "en" and sure == pytest.approx(theirs[1], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("beam_size", [1, 3])
def test_same_words_as_torch(beam_size, toy, toy_data, tmp_path):
    texts = {}
    for name, path in toy.items():
        decode_folder(
            path, name, toy_data, tmp_path / name, threads=1, nj=4, beam_size=beam_size
        )  # fmt: skip
        texts[name] = read_scp(tmp_path / name / "text")
    assert texts["onnx"] == texts["torch"]
    assert all(texts["torch"].values())


@pytest.mark.slow
def test_beams_keep_their_own_history(tiny_in, clips):
    """On a clip where beams overtake each other."""
    (clip,) = (load_audio(path) for path, language, _ in clips if language == "ru")
    texts = [
        load_runtime(name, path, threads=1, beam_size=4).decode([clip], "ru")
        for name, path in (("torch", tiny_in("openai")), ("onnx", tiny_in("onnx")))
    ]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_threads_batch_and_languages(toy):
    assert guess_runtime(toy["onnx"]) == "onnx"
    runtime = load_runtime("onnx", toy["onnx"], threads=1)
    assert runtime.threads == 1 and runtime.batch == 8 and runtime.workers == 1
    assert len(runtime.languages) == 99
    assert load_runtime("onnx", toy["onnx"], threads=1, beam_size=2).batch == 1
    for part in (runtime.model.encoder, runtime.model.decoder):
        assert part.session.get_session_options().intra_op_num_threads == 1


@pytest.mark.slow
def test_a_short_window_student(tmp_path):
    dims = ModelDimensions(80, 750, 64, 2, 1, 51864, 20, 64, 2, 1)
    torch.manual_seed(0)
    state = Whisper(dims).state_dict()
    state["decoder.positional_embedding"].normal_()
    save_pt(tmp_path / "toy.pt", Weights(dims, state), torch.float32)
    onnx_writer.save(tmp_path / "onnx", Weights(dims, state), {}, float_dtype="float32")
    audio = np.random.default_rng(0).normal(0, 0.1, 16 * SAMPLE_RATE).astype(np.float32)
    texts = []
    for name, file in (("torch", "toy.pt"), ("onnx", "onnx")):
        runtime = load_runtime(name, tmp_path / file, threads=1)
        assert runtime.languages == {"en"}
        texts.append(runtime.decode([audio[: 15 * SAMPLE_RATE], audio[:9000]], "en"))
        with pytest.raises(ValueError, match="1600 frames for a window of 1500"):
            runtime.decode([audio], "en")
        with pytest.raises(InputError, match="a window of 30 s, this model's is 15"):
            runtime.transcribe(audio[:9000], "en", True)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("file", onnx_reader.FILES)
def test_damaged_files_are_named(file, toy):
    path = toy["onnx"] / file
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=f"{path}: not an ONNX model, or truncated"):
        load_runtime("onnx", path.parent)
    path.unlink()
    with pytest.raises(InputError, match=f"{path}: no such file"):
        load_runtime("onnx", path.parent)


@pytest.mark.slow
def test_a_graph_that_does_not_load_is_named(toy):
    import onnx

    path = toy["onnx"] / "decoder.onnx"
    model = onnx.load(path)
    model.graph.node[-1].op_type = "Concaten"
    onnx.save(model, path)
    with pytest.raises(InputError, match=f"{path.parent}: ONNX Runtime cannot load it: .*Concaten"):
        load_runtime("onnx", path.parent)
