"""How probable a Whisper finds what was said: the cross-entropy of the references' tokens.

An error rate counts a few hundred words, of which two models share most, and one window in which
a model goes round in circles can decide it. This has neither fault, so it tells apart what error
rates of the same speech cannot. But it also counts how a text is written: capitals, punctuation.
Text without timestamps, language given, the model's own window, float32.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from whisper.model import ModelDimensions, Whisper

from espnet_dq.config import WindowConfig
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.prompted import read_speech, read_text
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits, own_window
from espnet_dq.whisper.sequences import build_sequences


@dataclass(frozen=True)
class Likelihood:
    """What a model made of a window, as `espnet_dq.scoring.bootstrap` draws it: nats for errors."""

    lang: str  # the column
    reference: str
    tokens: int
    errors: float


@torch.inference_mode()
def listen(
    net: Whisper,
    dims: ModelDimensions,
    data: KaldiDir,
    columns: Mapping[str, str],
    name: str,
    padding: str = WindowConfig.padding,
) -> dict[str, Likelihood]:
    """The cross-entropy of all tokens of each utterance, the end of the text included.

    Args:
        net: in evaluation mode, of `dims`, which also know its vocabulary.
        data: of one file an utterance.
        columns: of each utterance, that to which it counts.
        name: of the model, on the bar.
        padding: what fills windows, as in the runtime.

    Raises:
        InputError: an utterance that is longer than the model's window, or whose text is longer
            than its decoder has room for.
    """
    tokenizer, found = vocabulary_tokenizer(dims), {}
    for utt in tqdm(sorted(data.wav), desc=name, unit="window"):
        audio = read_speech(data, utt, dims)[None]
        text, language = read_text(data, utt, dims)
        seq = build_sequences(
            torch.tensor([text]),
            torch.tensor([len(text)]),
            torch.tensor([language]),
            torch.tensor([-1]),
            tokenizer,
        )
        mel = log_mel(audio, torch.tensor([audio.shape[1]]), dims.n_mels, own_window(dims), padding)
        hidden = decode_hidden(net.decoder, seq.inputs, encode(net.encoder, mel))
        logits = output_logits(net.decoder, seq.select(hidden))[seq.counted]
        targets = seq.targets[seq.counted]
        cost = float(cross_entropy(logits, targets, reduction="sum"))
        found[utt] = Likelihood(columns[utt], data.text[utt], len(targets), cost)
    return found


def nats(heard: Mapping[str, Likelihood]) -> dict[str, float]:
    """Of each column, in order, the nats a token."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for each in heard.values():
        sums[each.lang][0] += each.errors
        sums[each.lang][1] += each.tokens
    return {column: cost / tokens for column, (cost, tokens) in sorted(sums.items())}
