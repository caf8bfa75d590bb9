"""What a student hears of a clip, while its teacher hears it clean: other voices, rooms and lines.

All is mono float32 at 16 kHz. Resampling, time-stretching and codecs are FFmpeg's (PyAV).
"""

from collections.abc import Iterator

import av
import numpy as np
from scipy.signal import fftconvolve

from espnet_dq.config import AugmentConfig
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.noise import Samples, coloured, mixed
from espnet_dq.errors import InputError

# Formants of speakers differ by some 25 % (Lee and Rose, ICASSP 1996, warp by 0.88 to 1.12), of
# children by more; pitch, which moves along here, by still more.
VOICE = (0.8, 1.25)
SPEED = (0.9, 1.1)  # the ends of ESPnet's three speeds (Ko et al., Interspeech 2015)
SNR = (5.0, 30.0)  # dB
SLOPE = (0.0, 2.0)  # of noise: white to brown
REVERBERATION = (0.1, 0.8)  # seconds in which a room's sound falls by 60 dB
DIRECT = (0.0, 15.0)  # dB, of the speaker to the room
BAND = (300, 3400)  # Hz, of a telephone (ITU-T G.712)
# Codec, rate in Hz, bits a second where it has several: of telephones, calls and archives.
LINES = (
    ("pcm_mulaw", 8000, None),
    ("libopencore_amrnb", 8000, 12200),
    ("libopencore_amrnb", 8000, 4750),
    ("g722", 16000, None),
    ("libopus", 16000, 12000),
    ("libmp3lame", 16000, 16000),
)


class Augment:
    """Changes clips at random, each kind of change for its share of them.

    Args:
        config: the shares.
        longest: samples that a changed clip may have: those of the model's window.

    Raises:
        InputError: a codec that this build of FFmpeg lacks.
    """

    def __init__(self, config: AugmentConfig, longest: int):
        for codec, _, _ in LINES if config.line else ():
            try:
                av.Codec(codec, "w")
            except av.codec.codec.UnknownCodecError as e:
                raise InputError(f"line: this FFmpeg has no codec {codec}") from e
        self.config, self.longest = config, longest

    def __call__(self, clip: Samples, random: np.random.Generator) -> Samples:
        """The clip (samples,), as long as before unless its speed was changed."""
        kinds = {
            "speed": self._faster, "voice": other_voice, "room": in_room, "noise": in_noise,
            "line": over_line,
        }  # fmt: skip
        for kind, change in kinds.items():  # in the order in which they happen to speech
            if random.random() < getattr(self.config, kind):
                clip = change(clip, random)
        return clip

    def _faster(self, clip: Samples, random: np.random.Generator) -> Samples:
        slowest = max(SPEED[0], len(clip) / self.longest)  # what does not fit is not slowed down
        factor = random.uniform(slowest, max(slowest, SPEED[1]))
        return resampled(clip, SAMPLE_RATE * factor)[: self.longest]


def other_voice(clip: Samples, random: np.random.Generator) -> Samples:
    """Pitch and formants higher or lower by one factor, every word within 40 ms of its time."""
    factor = np.exp(random.uniform(*np.log(VOICE)))
    return _as_long(stretched(resampled(clip, SAMPLE_RATE * factor), 1 / factor), clip)


def in_room(clip: Samples, random: np.random.Generator) -> Samples:
    """With the reverberation of a room: noise that decays exponentially (Polack, 1988)."""
    seconds = random.uniform(*REVERBERATION)
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = random.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response *= 10 ** (-random.uniform(*DIRECT) / 20) / np.sqrt(np.square(response).sum())
    response[0] += 1.0  # the speaker
    return _as_loud(fftconvolve(clip, response)[: len(clip)], clip)


def in_noise(clip: Samples, random: np.random.Generator) -> Samples:
    """With stationary noise of any colour from white to brown."""
    noise = coloured(len(clip), random.uniform(*SLOPE), random)
    # What an offset has of power is not the speech's.
    return mixed(clip - clip.mean(), noise, random.uniform(*SNR))


def over_line(clip: Samples, random: np.random.Generator) -> Samples:
    """Through a codec; those of 8 kHz through a telephone's band first."""
    codec, rate, bits = LINES[random.integers(len(LINES))]
    beyond = max(1.0, float(np.abs(clip).max(initial=0.0)))  # codecs cut it off
    sent = clip / beyond
    if rate < SAMPLE_RATE:
        sent = filtered(sent, f"highpass=f={BAND[0]}", f"lowpass=f={BAND[1]}")
    return beyond * _as_long(coded(sent, codec, rate, bits), clip)


def resampled(clip: Samples, rate: float) -> Samples:
    """A clip of any rate at 16 kHz; of one at 16 kHz, played faster the higher `rate` is."""
    # FFmpeg's rates are whole numbers. Nobody hears 1 Hz of 16 kHz.
    return _joined(_frames(clip, round(rate)))


def stretched(clip: Samples, factor: float) -> Samples:
    """Spoken `factor` times as fast (0.5 to 2), all frequencies as they are."""
    return filtered(clip, f"atempo={factor:.6f}")


def filtered(clip: Samples, *filters: str) -> Samples:
    """Through FFmpeg's filters, each `name=options`."""
    graph = av.filter.Graph()
    chain = [graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono")]
    chain += [graph.add(*part.split("=", 1)) for part in filters]
    chain.append(graph.add("abuffersink"))
    graph.link_nodes(*chain).configure()
    for frame in [*_frames(clip), None]:
        chain[0].push(frame)
    return _joined(_pulled(graph))


def coded(clip: Samples, codec: str, rate: int, bits: int | None = None) -> Samples:
    """A clip within -1 to 1, encoded at a rate and decoded again, at 16 kHz."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout = rate, "mono"
    encoder.format = encoder.codec.audio_formats[0].name
    encoder.bit_rate = bits or 0
    encoder.open()
    decoder = av.CodecContext.create(encoder.codec.canonical_name, "r")
    decoder.sample_rate, decoder.layout = rate, "mono"
    decoder.extradata = encoder.extradata
    send = av.AudioResampler(encoder.format, "mono", rate, frame_size=encoder.frame_size)
    sent = [frame for one in [*_frames(clip), None] for frame in send.resample(one)]
    packets = [packet for frame in [*sent, None] for packet in encoder.encode(frame)]
    return _joined(frame for packet in [*packets, None] for frame in decoder.decode(packet))


def _frames(clip: Samples, rate: int = SAMPLE_RATE) -> list[av.AudioFrame]:
    frame = av.AudioFrame.from_ndarray(np.float32(clip)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return [frame] if len(clip) else []


def _pulled(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _joined(frames) -> Samples:
    """Frames of any rate and format as samples."""
    to = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    parts = [part.to_ndarray()[0] for one in [*frames, None] for part in to.resample(one)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _as_long(clip: Samples, other: Samples) -> Samples:
    return np.pad(clip, (0, max(0, len(other) - len(clip))))[: len(other)]


def _as_loud(clip: Samples, other: Samples) -> Samples:
    power, wanted = (float(np.square(x, dtype=np.float64).mean()) for x in (clip, other))
    return (clip * np.sqrt(wanted / power if power else 0.0)).astype(np.float32)
