import pytest
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import LANGUAGES

from espnet_dq.errors import InputError
from espnet_dq.whisper.dims import (
    SIZES,
    language_token,
    model_dims,
    vocabulary_tokenizer,
    weight_shapes,
)


@pytest.mark.parametrize(
    "dims",
    [SIZES["tiny"], ModelDimensions(128, 1500, 32, 2, 3, 51866, 448, 64, 4, 2)],
    ids=["tiny", "uneven"],
)
def test_shapes_are_openais(dims):
    expected = {k: tuple(v.shape) for k, v in Whisper(dims).state_dict().items()}
    assert weight_shapes(dims) == expected


def test_sizes_are_those_of_the_real_files(weights_dir):
    import torch

    for name in ("tiny", "base"):
        saved = torch.load(weights_dir / f"{name}.pt", weights_only=True)["dims"]
        assert vars(model_dims(name)) == saved
        assert model_dims(saved) == model_dims(name)


def test_dims_mistakes_are_named():
    with pytest.raises(InputError, match="size 'huge'"):
        model_dims("huge")
    whole = vars(SIZES["tiny"])
    with pytest.raises(InputError, match="missing key n_mels"):
        model_dims({k: v for k, v in whole.items() if k != "n_mels"})
    with pytest.raises(InputError, match="unknown key width"):
        model_dims({**whole, "width": 1})
    with pytest.raises(InputError, match="neither a size's name nor a mapping"):
        model_dims([80, 1500])


def test_every_language_of_whisper():
    for vocabulary, languages in ((51865, 99), (51866, 100)):
        tokenizer = vocabulary_tokenizer(vocabulary)
        found = {language_token(tokenizer, code) for code in list(LANGUAGES)[:languages]}
        assert found == set(tokenizer.all_language_tokens)
    with pytest.raises(InputError, match="'yue'"):
        language_token(vocabulary_tokenizer(51865), "yue")
    with pytest.raises(InputError, match="51864"):
        vocabulary_tokenizer(51864)
