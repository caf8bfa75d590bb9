"""The corpora that the recipe knows, and which scripts of `local/` make their Kaldi folders."""

from dataclasses import dataclass

from espnet_dq.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes:
        scripts: of `local/`, without `.py`; a published corpus may be joined from several.
        own: whether it is one that the user has, in a folder that `--data_root` names.
        file: whether `--data_root` may name a file.
        takes: which of `--language` and `--split` its script takes.
    """

    scripts: tuple[str, ...]
    own: bool = True
    file: bool = False
    takes: tuple[str, ...] = ()


# Another one is a script and a line.
CORPORA = {
    "asterisk": Corpus(("asterisk",), own=False),
    "debian7": Corpus(("asterisk", "festvox_ru", "fillets"), own=False),
    "debian13": Corpus(("asterisk", "festvox_ru", "fillets", "tuxpaint"), own=False),
    "common_voice": Corpus(("common_voice",)),
    "fleurs": Corpus(("fleurs",)),
    "mls": Corpus(("mls",)),
    "voxpopuli": Corpus(("voxpopuli",)),
    "librispeech": Corpus(("librispeech",)),
    "aishell": Corpus(("aishell",)),
    "speechocean762": Corpus(("speechocean762",)),
    "csv": Corpus(("table",), file=True, takes=("language", "split")),
    "kaldi": Corpus(("kaldi_dir",), takes=("language", "split")),
    "lhotse_cuts": Corpus(("lhotse_cuts",), takes=("language",)),
    "hf_dataset": Corpus(("hf_dataset",), takes=("language",)),
}


def get_corpus(name: str) -> Corpus:
    """The corpus of a name; raises `InputError`."""
    if name not in CORPORA:
        raise InputError(f"unknown corpus: {name}: known are {', '.join(CORPORA)}")
    return CORPORA[name]
