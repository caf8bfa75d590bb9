"""Audio files as the programs of users write them, made with FFmpeg's own muxers."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path, codec: str, samples: np.ndarray, rate: int, *, moved=None, video=0.0, **options
) -> Path:
    """Write (samples, channels) in [-1, 1].

    Args:
        path: Its suffix, or the option `format`, names the container.
        codec: FFmpeg's name.
        samples: What is heard.
        rate: Hz.
        moved: Gives seconds for the number and the seconds of each packet, to be added to these.
        video: Seconds of black picture beside it.
        options: Of the container.
    """
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", format=options.pop("format", None), options=options) as out:
        picture = out.add_stream("mpeg4", rate=10) if video else None
        stream = out.add_stream(codec, rate=rate, layout=layout)
        packets = []
        if picture:
            picture.width = picture.height = 32
            for _ in range(round(video * 10)):
                black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                packets += picture.encode(black.reformat(format="yuv420p"))
            packets += picture.encode(None)
        fit = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        for first in range(0, len(samples), 1000):
            part = np.ascontiguousarray(samples[first : first + 1000], np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            for ready in fit.resample(frame):
                packets += stream.encode(ready)
        packets += stream.encode(None)
        sound = [x for x in packets if x.stream is stream]
        for number, packet in enumerate(sound):
            if moved:
                by = moved(number, float(packet.pts * packet.time_base))
                packet.pts = packet.dts = packet.pts + round(by / packet.time_base)
        for packet in sorted(packets, key=lambda x: x.dts * x.time_base):
            out.mux(packet)
    return path


def peak_hz(samples: np.ndarray) -> float:
    """The loudest tone of (samples,) at 16 kHz."""
    return np.abs(np.fft.rfft(samples)).argmax() * 16000 / len(samples)


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(samples, channels) that are never quiet for long."""
    return np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))


def heard(samples: np.ndarray) -> list[tuple[float, float]]:
    """Seconds from which to which there is sound at 16 kHz, in steps of 10 ms."""
    loud = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).max(axis=1) > 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud, [0]]).astype(int)))
    return [(a / 100, b / 100) for a, b in edges.reshape(-1, 2)]
