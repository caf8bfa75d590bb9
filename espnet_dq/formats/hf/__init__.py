"""Hugging Face's folder, which transformers reads."""

from os.path import lexists

from espnet_dq.files import Folder
from espnet_dq.formats.format import Card, Format

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"  # of a model in several files
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = f"{PICKLE}.index.json"
# What such a folder is known by; the first that is there is read, as transformers does.
FILES = (FILE, INDEX, PICKLE, PICKLE_INDEX)


class HuggingFace(Format):
    """See `Format`. It holds a grid's values as float32, so nothing gets smaller."""

    name = "hf"
    known_by = FILE
    exported = "student_hf"
    runtime = "transformers"
    folder = Folder(
        "hf",
        (FILE, "config.json", "generation_config.json", "preprocessor_config.json",
         "tokenizer.json", "tokenizer_config.json"),
    )  # fmt: skip
    # Of several files, and adapters; CTranslate2's file has the same ending as pickles.
    hosted = (("*.safetensors",), ("pytorch_model*.bin", "adapter_model.bin"))
    engine = "transformers"
    package = "transformers"
    card = Card(
        "# pip install transformers torch librosa\n"
        "import librosa\nfrom transformers import pipeline\n\n"
        'task = "automatic-speech-recognition"\n'
        'model = pipeline(task, "PATH", chunk_length_s=WINDOW)  # longer audio in parts\n'
        'samples, _ = librosa.load("audio.wav", sr=16000)  # of any rate, any channels\n'
        'print(model(samples, generate_kwargs={"language": "LANGUAGE"})["text"])',
        "in `tokenizer.json`",
        "transformers",
    )

    def recognizes(self, path, start):
        return any(lexists(path / name) for name in FILES)

    def decoder(self, path):
        safe = any(lexists(path / name) for name in (FILE, INDEX))
        return self.runtime if safe else "torch"  # pickles are only read by our own reader

    def check(self, dims, grids):
        from espnet_dq.formats.ct2 import config

        config.preprocessor(dims)

    def lost(self, generation, dims):
        return ""
