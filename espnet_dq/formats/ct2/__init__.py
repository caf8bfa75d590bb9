"""CTranslate2's folder, which faster-whisper reads."""

from os.path import lexists

from espnet_dq.files import Folder
from espnet_dq.formats.format import Card, Format

_LOADED = (
    "# pip install faster-whisper\n"
    "from faster_whisper import WhisperModel\n\n"
    'model = WhisperModel("PATH", compute_type="COMPUTE")\n'
)
_CUT = (
    "encode, frames = model.encode, model.feature_extractor.nb_max_frames\n"
    "model.encode = lambda features: encode(features[..., :frames])  # WINDOW s, padded to 30\n"
)
_HEARD = (
    'segments, _ = model.transcribe("audio.wav", language="LANGUAGE")\n'
    'print(" ".join(segment.text for segment in segments))'
)


class CTranslate2(Format):
    """See `Format`."""

    name = "ct2"
    known_by = "model.bin"
    exported = "student"
    runtime = "faster-whisper"
    grids = ("ct2_int8",)
    folder = Folder(
        "ct2",
        ("model.bin", "config.json", "preprocessor_config.json", "tokenizer.json",
         "vocabulary.json"),
    )  # fmt: skip
    engine = "CTranslate2"
    package = "ctranslate2"
    isolated = True
    other_window = "faster-whisper pads audio to 30 s, and fails unless its features are cut"
    card = Card(
        _LOADED + _HEARD,
        "in `tokenizer.json`",
        "ctranslate2",
        shorter=_LOADED + _CUT + _HEARD,
    )

    def recognizes(self, path, start):
        return lexists(path / "model.bin")

    def check(self, dims, grids):
        from espnet_dq.formats.ct2 import config, write

        write.check_vocabulary(dims)
        config.preprocessor(dims)

    def lost(self, generation, dims):
        from espnet_dq.whisper.generation import openais

        usual = openais(dims).others
        gone = [key for key, value in generation.others.items() if usual.get(key) != value]
        return f"ct2 has no place for the source's {', '.join(sorted(gone))}" if gone else ""
