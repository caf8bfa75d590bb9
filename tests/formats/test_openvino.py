"""OpenVINO runs the ONNX folders that hold no blocks: what it says is what ONNX Runtime says."""

import numpy as np
import openvino
import pytest

from espnet_dq.api.models import convert
from espnet_dq.data.audio import load_audio
from espnet_dq.runtimes import load_runtime


class Session:
    """A graph in OpenVINO, called as ONNX Runtime's session is."""

    def __init__(self, path):
        precision = {openvino.properties.hint.inference_precision: openvino.Type.f32}
        self.model = openvino.Core().compile_model(path, "CPU", precision)

    def run(self, _, inputs):
        found = self.model({name: np.asarray(value) for name, value in inputs.items()})
        return [np.array(found[output]) for output in self.model.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["none", "onnx_int8"])
def test_texts(grid, weights_dir, clips, tmp_path):
    convert(weights_dir / "tiny.pt", tmp_path / "onnx", "onnx", grid)
    runtime, other = (load_runtime("onnx", tmp_path / "onnx", threads=1, nj=1) for _ in range(2))
    other.model.encoder.session = Session(tmp_path / "onnx/encoder.onnx")
    other.model.decoder.session = Session(tmp_path / "onnx/decoder.onnx")
    for path, language, _ in clips:
        audio = [load_audio(path)]
        assert other.decode(audio, language) == runtime.decode(audio, language)
