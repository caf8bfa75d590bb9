import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_dq.data.spelling import normalise
from espnet_dq.data.splits import assign, split_of

# md5sum's first 16 digits: 4486cf69a4dae05f, b01b938b53c3fb52, 5ff17699dd38cdc5, ...
KNOWN = {
    "digits/1": "train",
    "digits/1F": "test",
    "vm-mismatch": "dev",
    "letters/o": "train",
    "hello-world": "train",
}
# Few words and names, so that the same text often meets in several splits.
ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["en", "es", "ru"]),
        st.sampled_from([*KNOWN, *"abcdefghijklmnopqrstuvwxyz"]),
        st.sampled_from(["One.", "one", "ONE!", "two", "Два", "два,", "three", "(x) three"]),
    )
)


@pytest.mark.parametrize(("prompt", "split"), KNOWN.items())
def test_known_prompts(prompt, split):
    assert split_of(prompt) == split


def test_shares_of_the_splits():
    names = [f"prompt-{i}" for i in range(5000)]
    counts = [sum(split_of(n) == s for n in names) / 5000 for s in ("test", "dev", "train")]
    assert counts == pytest.approx([0.1, 0.1, 0.8], abs=0.02)


def test_shared_text_moves_to_train():
    entries = [
        ("es", "digits/1F", "Una."),
        ("es", "vm-mismatch", "una"),
        ("it", "digits/1F", "una"),
    ]
    # es: test and dev meet, both move; it: the same words in another language do not count
    assert assign(entries) == ["train", "train", "test"]


def test_sentences_are_told_apart_by_their_vowel_signs_and_not_by_spaces_or_encoding():
    """A vowel sign makes another sentence; another encoding or punctuation does not."""
    assert assign([("hi", "digits/1F", "वह जाती है"), ("hi", "vm-mismatch", "वह जाता है")]) == [
        "test",
        "dev",
    ]
    assert assign([("zh", "digits/1F", "我喜欢喝茶。"), ("zh", "vm-mismatch", "我 喜欢喝茶")]) == [
        "train",
        "train",
    ]
    assert assign([("tr", "digits/1F", "İyi"), ("tr", "vm-mismatch", "iyi")]) == ["train"] * 2


@given(ENTRIES)
def test_no_text_of_a_language_is_in_two_splits(entries):
    where = {}
    for (lang, _, text), split in zip(entries, assign(entries), strict=True):
        where.setdefault((lang, normalise(text, lang)), set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())


@given(ENTRIES)
def test_entries_move_only_to_train_and_only_when_they_must(entries):
    splits = assign(entries)
    assert len(splits) == len(entries)
    for (lang, prompt, text), split in zip(entries, splits, strict=True):
        alike = {
            split_of(p)
            for ln, p, t in entries
            if ln == lang and normalise(t, lang) == normalise(text, lang)
        }
        assert split == (split_of(prompt) if len(alike) == 1 else "train")


@given(ENTRIES, st.randoms())
def test_order_does_not_matter(entries, random):
    before = dict(zip(entries, assign(entries), strict=True))
    random.shuffle(entries)
    assert dict(zip(entries, assign(entries), strict=True)) == before
