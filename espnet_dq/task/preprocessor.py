"""What one utterance becomes before it is batched."""

import numpy as np
from espnet2.train.preprocessor import AbsPreprocessor

from espnet_dq.errors import InputError
from espnet_dq.task.tokenizer import NAME, DQWhisperTokenizer
from espnet_dq.whisper.dims import language_token

# Handed over by ESPnet for every preprocessor; what is unset (or 1.0, a probability without
# anything to apply it to) has no effect.
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


class DQWhisperPreprocessor(AbsPreprocessor):
    """Speech as float32, text as Whisper's token ids, language (`utt2lang`) as a token id.

    In: `speech` [L] float at 16 kHz, `text` str, `lang` str (one of Whisper's codes).
    Out: `speech` float32 [L], `text` int64 [T], `lang` int64 [1]; other entries pass through
    (cached teacher outputs). Raises `InputError` naming the utterance.
    """

    def __init__(self, train: bool, bpemodel: str | None, token_list: list[str], **options):
        super().__init__(train)
        if bpemodel != NAME:
            raise InputError(f"preprocessor {NAME} needs bpemodel: {NAME}, not {bpemodel}")
        for name in _UNUSED:
            if options.get(name):
                raise InputError(f"preprocessor {NAME} does not support --{name}")
        self.tokenizer = DQWhisperTokenizer(token_list)

    def __call__(self, uid: str, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        if "speech" in data:
            speech = np.asarray(data["speech"], dtype=np.float32)
            if speech.ndim != 1 or not len(speech) or not np.isfinite(speech).all():
                raise InputError(f"utterance {uid}: speech must be one channel of finite samples")
            data["speech"] = speech
        if "text" in data:
            ids = self.tokenizer.text2ids(data["text"])
            data["text"] = np.asarray(ids, dtype=np.int64)
        if "lang" in data:
            try:
                token = language_token(self.tokenizer.tokenizer, data["lang"])
            except InputError as e:
                raise InputError(f"utterance {uid}: {e}") from None
            data["lang"] = np.asarray([token], dtype=np.int64)
        return data
