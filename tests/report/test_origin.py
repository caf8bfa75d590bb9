"""What is told to others of paths: no more than the names of files."""

import pytest

from espnet_dq.report.origin import command, prose


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run.sh --data_root /home/ann/de --qat_config ~/my.yaml", "run.sh --data_root DIR "
         "--qat_config my.yaml"),
        ("x --a=@/home/ann/x.json @/home/ann", "x --a=@x.json @DIR"),
        ("x file:///home/ann/x.txt file://ann/home file:/home/ann", "x x.txt DIR DIR"),
        ("x '--data \"/home/ann lee/x\" --b 1'", "x '--data \"DIR\" --b 1'"),
        ("""x "--a '/home/ann lee/y z.txt' --b" """, """x '--a '"'"'y z.txt'"'"' --b'"""),
        ("x '--a {\"p\": \"/home/ann lee/x\"}'", "x '--a {\"p\": \"DIR\"}'"),
        ("x '--a=/home/ann lee/b'", "x --a=DIR"),
        ("x -I/home/ann -C~/ann ../ann .. //home/ann", "x -IDIR -CDIR DIR DIR DIR"),
        ("x host:/home/ann/de a,/home/ann/b.pt,/home/ann/c", "x host:DIR a,b.pt,DIR"),
        ("x '[/home/ann/a.pt]' '(~ann/b)'", "x '[a.pt]' '(DIR)'"),
        ("x '--train /home/ann/a.gz --dev /home/ann/b --c 1'", "x '--train a.gz --dev DIR --c 1'"),
    ],
)  # fmt: skip
def test_no_path_in_a_command(line, said):
    assert command(line) == said


@pytest.mark.parametrize(
    "line",
    [
        "run.sh --data_root corpora/de --config conf/train.yaml ./x.pt",
        "run.sh --upload_to me/toy --teacher https://huggingface.co/a/b 1/2",
    ],
)
def test_what_leaves_no_folder_stays(line):
    """Relative paths, names and addresses."""
    assert command(line) == line and prose(line) == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/ann lee/a b/ru.wav: no sound", "ru.wav: no sound"),
        ("error:/home/ann/x.wav: no", "error:x.wav: no"),
        ("'/home/ann/x.wav' (file:///home/ann/y.flac)", "'x.wav' (y.flac)"),
        ("/home/ann: permission denied", "DIR: permission denied"),
        ("cannot open ~/x.wav or ../ann/y.wav", "cannot open x.wav or y.wav"),
        ("text: </s>, <|en|>, and/or 1 / 2", "text: </s>, <|en|>, and/or 1 / 2"),
    ],
)
def test_no_folder_in_prose(text, said):
    assert prose(text) == said
