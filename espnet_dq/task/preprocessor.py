"""What one utterance becomes before it is batched."""

import zlib

import numpy as np
from espnet2.train.preprocessor import AbsPreprocessor
from whisper.audio import N_FRAMES

from espnet_dq.config import AugmentConfig
from espnet_dq.data.augment import Augment
from espnet_dq.errors import InputError, named
from espnet_dq.task.tokenizer import NAME, DQWhisperTokenizer
from espnet_dq.whisper.dims import language_token
from espnet_dq.whisper.forward import SAMPLES_PER_POSITION

# Handed over by ESPnet for every preprocessor.
_UNUSED = (
    "rir_scp",
    "noise_scp",
    "text_cleaner",
    "g2p_type",
    "non_linguistic_symbols",
    "speech_volume_normalize",
    "aux_task_names",
    "use_lang_prompt",
    "use_nlp_prompt",
)
# The same, without effect: how the above would be applied, and the tokenizer's kind, which
# `bpemodel` says.
_WITHOUT_EFFECT = (
    "token_type",
    "rir_apply_prob",
    "noise_apply_prob",
    "noise_db_range",
    "short_noise_thres",
)


class DQWhisperPreprocessor(AbsPreprocessor):
    """Speech as float32, text as Whisper's token ids, language (`utt2lang`) as a token id.

    In: `speech` [L] float at 16 kHz, `text` str with its `lang` str (one of Whisper's codes).
    Out: `speech` float32 [L], `text` int64 [T], `lang` int64 [1]; other entries pass through
    (cached teacher outputs). In training, if asked for, `heard` float32 [L'], too: what the student
    hears in the place of `speech`. It is drawn by NumPy's global generator, which ESPnet seeds for
    each epoch, and the utterance's name. Raises `InputError` naming the utterance.

    Args:
        n_audio_ctx: positions of the student's encoder, which `heard` must fit into.
        options: the keys of `espnet_dq.config.AugmentConfig`, and what ESPnet hands over.
    """

    def __init__(
        self,
        train: bool,
        bpemodel: str | None,
        token_list: list[str],
        n_audio_ctx: int = N_FRAMES // 2,
        **options,
    ):
        super().__init__(train)
        if bpemodel != NAME:
            raise InputError(f"preprocessor {NAME} needs bpemodel: {NAME}, not {bpemodel}")
        for name in _UNUSED:
            if options.get(name):
                raise InputError(f"preprocessor {NAME} does not support --{name}")
        own = {k: v for k, v in options.items() if k not in (*_UNUSED, *_WITHOUT_EFFECT)}
        config = AugmentConfig.from_mapping(own)
        self.augment = None
        if train and config:
            self.augment = Augment(config, n_audio_ctx * SAMPLES_PER_POSITION)
        self.tokenizer = DQWhisperTokenizer(token_list)

    def __call__(self, uid: str, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        if "speech" in data:
            speech = np.asarray(data["speech"], dtype=np.float32)
            if speech.ndim != 1 or not len(speech) or not np.isfinite(speech).all():
                raise InputError(f"utterance {uid}: speech must be one channel of finite samples")
            data["speech"] = speech
            if self.augment is not None:
                # ESPnet seeds the workers of all processes alike.
                name = zlib.crc32(uid.encode())
                random = np.random.default_rng([np.random.randint(2**31), name])
                data["heard"] = self.augment(speech, random)
        if "text" in data:
            ids = self.tokenizer.text2ids(data["text"], data["lang"])
            data["text"] = np.asarray(ids, dtype=np.int64)
        if "lang" in data:
            with named(f"utterance {uid}"):
                token = language_token(self.tokenizer.tokenizer, data["lang"])
            data["lang"] = np.asarray([token], dtype=np.int64)
        return data
