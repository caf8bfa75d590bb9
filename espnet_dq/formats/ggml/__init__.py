"""whisper.cpp's file."""

from espnet_dq.formats.format import Card, Format

_MAGIC = 0x67676D6C.to_bytes(4, "little")
_LOADED = (
    "# pip install pywhispercpp librosa\n"
    "import librosa\nfrom pywhispercpp.model import Model\n\n"
    'model = Model("PATH/model.bin")\n'
    'samples, rate = librosa.load("audio.wav", sr=16000)  # of any rate, any channels\n'
)
_HEARD = 'print(" ".join(s.text for s in model.transcribe(samples, language="LANGUAGE")))'
_IN_PARTS = (
    "step = int(WINDOW * rate)  # what is longer than WINDOW s you may better cut at pauses\n"
    "for start in range(0, len(samples), step):\n"
    "    part = samples[start : start + step]\n"
    '    print(" ".join(s.text for s in model.transcribe(part, language="LANGUAGE")))'
)


class Ggml(Format):
    """See `Format`."""

    name = "ggml"
    known_by = "a ggml file"
    exported = "student.bin"
    runtime = "whisper.cpp"
    grids = (
        "ggml_q8_0", "ggml_q5_1", "ggml_q5_0", "ggml_q4_1", "ggml_q4_0", "ggml_q6_K", "ggml_q5_K",
        "ggml_q4_K", "ggml_q3_K", "ggml_q2_K",
    )  # fmt: skip
    float_dtype = "float16"  # whisper.cpp's convolution aborts on another
    padding = "silence"
    engine = "whisper.cpp"
    package = "_pywhispercpp"
    isolated = True
    other_window = "whisper.cpp leaves out the rest of each 30 s: give it no more"
    says_any_window = False
    card = Card(
        _LOADED + _HEARD,
        "in the model file",
        "whisper.cpp",
        shorter=_LOADED + _IN_PARTS,
    )

    def recognizes(self, path, start):
        return start[:4] == _MAGIC

    def check(self, dims, grids):
        from espnet_dq.formats.ggml import write

        write.check_grids(dims, grids)

    def untimed(self, dims):
        from espnet_dq.whisper.vocabulary import WHOLE

        # It takes such a model for the first release of distil-whisper, unless it is a v3.
        untimed = dims.n_text_layer == 2 and dims.n_vocab != WHOLE[2]
        return "whisper.cpp sets no timestamps of a model with two decoder layers" * untimed

    def rounded(self, path, model):
        from espnet_dq.formats.ggml import read, rounding

        kinds = {ftype: kind for kind, ftype in read.FTYPES.items()}
        return rounding.as_whisper_cpp(model, kinds[read.read(path).ftype])
