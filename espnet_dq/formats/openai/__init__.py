"""OpenAI's checkpoint, which openai-whisper reads."""

from espnet_dq.formats.format import Format

_MAGIC = b"PK\x03\x04"  # torch's archives are zip files


class OpenAI(Format):
    """See `Format`. It holds a grid's values as float32, so nothing gets smaller."""

    name = "openai"
    known_by = "a torch checkpoint (.pt)"
    exported = "student.pt"
    runtime = "torch"
    engine = "openai-whisper"
    package = "whisper"
    other_window = "openai-whisper pads audio to 30 s, and fails"

    def recognizes(self, path, start):
        return start[:4] == _MAGIC

    def check(self, dims, grids):
        from espnet_dq.formats.openai import write

        write.check_vocabulary(dims)

    def save(self, path, weights, quantized, float_dtype):
        from dataclasses import replace

        import torch

        from espnet_dq.formats.openai import write
        from espnet_dq.quant.grids import get_grid

        values = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
        dtype = torch.float32 if quantized else getattr(torch, float_dtype)
        write.save(path, replace(weights, state=weights.state | values), dtype=dtype)
