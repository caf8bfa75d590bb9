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

    def recognizes(self, path, start):
        return start[:4] == _MAGIC

    def load(self, path):
        from espnet_dq.formats.openai import read

        return read.load(path)

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

    def compare(self, path, reference):
        from espnet_dq.formats.openai import verify

        return verify.compare(path, reference)

    def logits(self, path, probe):
        import whisper

        from espnet_dq.formats.logits import of_model

        # Absolute: of a file that is called `tiny` it would fetch OpenAI's.
        model = whisper.load_model(str(path.absolute()), device="cpu")
        return of_model(model, probe, probe.mels)
