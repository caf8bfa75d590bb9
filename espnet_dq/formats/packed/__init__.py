"""Packed safetensors: any grid in as many bits as it has, for storage and for torch."""

from espnet_dq.formats.format import Card, Format


class Packed(Format):
    """See `Format`; the layout is in docs/packed_format.md."""

    name = "packed"
    known_by = "a packed file"
    exported = "student.safetensors"
    runtime = "torch"
    card = Card(
        "# with espnet_dq installed\n"
        "python -Pm espnet_dq.bin.transcribe audio.wav --model PATH/model.safetensors "
        "--language LANGUAGE",
        "openai-whisper's, which espnet_dq brings",
        "espnet_dq",
        language="sh",
    )

    def recognizes(self, path, start):
        return start[8:9] == b"{"  # after the length of safetensors' header

    def integers(self, path):
        from espnet_dq.formats.packed import read

        return read.read(path).quantized

    def lost(self, generation, dims):
        return ""
