from espnet_dq.scoring.trn import Pair, escape, write_trn


def test_no_id_and_no_word_is_markup_to_sclite(tmp_path):
    odd = ["(a)", "a b", "a\nb", ";;x", "{a / b}", "@", "%28a%29", "../x", "-x", "a\tb", "é"]
    pairs = [Pair("en", utt, [utt], odd) for utt in odd]
    write_trn(tmp_path / "trn", pairs, "hyp", False)
    lines = (tmp_path / "trn").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(lines) == len(odd) == len({escape(utt) for utt in odd})
    for utt, line in zip(odd, lines, strict=True):
        assert line.endswith(f" (en-{escape(utt)})") and line.count("(") == line.count(")") == 1
        assert len(line.split()) == len(odd) + 1 and not set(line) & set("{}@/;\\<>")
