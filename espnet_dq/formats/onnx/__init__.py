"""A folder for ONNX Runtime and sherpa-onnx."""

from os.path import lexists

from espnet_dq.files import Folder
from espnet_dq.formats.format import Card, Format


class Onnx(Format):
    """See `Format`."""

    name = "onnx"
    known_by = "encoder.onnx"
    exported = "student_onnx"
    runtime = "onnx"
    grids = ("onnx_int8", "ggml_q8_0", "ggml_q4_0")
    folder = Folder("onnx", ("encoder.onnx", "decoder.onnx", "tokens.txt"))
    engine = "ONNX Runtime"
    package = "onnxruntime"
    isolated = True
    other_window = "sherpa-onnx leaves out what is beyond: give it no more"
    card = Card(
        "# pip install sherpa-onnx librosa\nimport librosa\nimport sherpa_onnx\n\n"
        "recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(\n"
        '    encoder="PATH/encoder.onnx", decoder="PATH/decoder.onnx", tokens="PATH/tokens.txt",\n'
        '    language="LANGUAGE",\n)\n'
        'samples, rate = librosa.load("audio.wav", sr=16000)  # of any rate, any channels\n'
        "step = int(WINDOW * rate)  # what is longer than WINDOW s you may better cut at pauses\n"
        "for start in range(0, len(samples), step):\n"
        "    stream = recognizer.create_stream()\n"
        "    stream.accept_waveform(rate, samples[start : start + step])\n"
        "    recognizer.decode_stream(stream)\n"
        "    print(stream.result.text)",
        "in `tokens.txt`",
        "sherpa-onnx",
    )

    def recognizes(self, path, start):
        return lexists(path / "encoder.onnx")

    def check(self, dims, grids):
        from espnet_dq.formats.onnx import write

        write.check_vocabulary(dims)
        write.check_grids(dims, grids)

    def rounded(self, path, model):
        from espnet_dq.formats.onnx import read, rounding

        return rounding.as_onnx_runtime(model, read.read(path).tensors)
