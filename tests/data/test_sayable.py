"""What cannot have been said of a text: by its letters and their time, in any script."""

import random

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq.data.audio import load_audio
from espnet_dq.data.sayable import too_much, unsaid, without
from espnet_dq.data.unfit import sounding_seconds

# A sentence that is said in its seconds, and what a model might repeat behind it.
SOUND = {
    "en": ("Please enter the number that you wish to call, and then press the pound key.", 4.0),
    "ru": ("Пожалуйста, введите номер телефона, а затем нажмите на решётку.", 4.0),
    "ka": ("ქართული ენა არის საქართველოს სახელმწიფო ენა და მასზე მილიონობით ლაპარაკობენ.", 5.0),
    "th": ("ภาษาไทยเป็นภาษาราชการของประเทศไทยและมีคนพูดมากกว่าหกสิบล้านคนทั่วโลก", 5.0),
    "my": ("မြန်မာဘာသာစကားသည် မြန်မာနိုင်ငံ၏ ရုံးသုံးဘာသာစကား ဖြစ်သည်။", 4.5),
    "zh": ("请输入您要拨打的电话号码，然后按井号键确认。", 4.0),
    "ja": ("おかけになった電話番号は現在使われておりません。", 4.0),
    "ko": ("지금 거신 번호는 없는 번호입니다. 다시 확인하시기 바랍니다.", 4.5),
    "hi": ("कृपया वह नंबर डालें जिस पर आप बात करना चाहते हैं और फिर हैश दबाएँ।", 4.5),
    "ar": ("الرجاء إدخال الرقم الذي تريد الاتصال به ثم الضغط على مفتاح المربع", 4.5),
}
AGAIN = {
    "en": " Thank you.",
    "ru": " Спасибо.",
    "ka": " მადლობა.",
    "th": "ขอบคุณ",
    "my": "ကျေးဇူး",
    "zh": "谢谢观看",
    "ja": "ご視聴ありがとう",
    "ko": " 감사합니다.",
    "hi": " धन्यवाद।",
    "ar": " شكرا",
}


def cut(text, seconds):
    """What is left of a text that a decoder did not end by itself."""
    return without(text, unsaid(text, seconds, endless=True))


def listed(text):
    """Language -> what is said again and again, how often, and the seconds it takes."""
    lines = (line.split("|") for line in text.split("\n") if line.strip())
    return [
        (lang.strip(), said, int(times), float(seconds)) for lang, said, times, seconds in lines
    ]


# Choruses, chants, announcements, counting: as people say them, some at their usual pace.
REPEATED = listed("""
en|Let's go Rangers! |4|6
en|All our lines are busy. Please hold. |4|30
en|All our lines are busy. Please hold. |4|8
en|Thank you. |6|6
en|Order! |7|8
en|one two three four. |4|5
en|one two three four. |12|14
en|ha |16|4
en|God is great. |4|4
en|We will, we will rock you! |8|14
en|0|32|10
de|Bitte warten Sie. |4|5
de|Ja, |16|4
fr|Allez les bleus ! |8|9
es|¡Olé, olé, olé! |6|8
it|Attenzione, chiusura porte. |5|9
pt|Fora! |20|15
ru|Шайбу! |12|10
ru|Сто двадцать восемь. |4|5
el|Ζήτω! |9|7
ka|გაუმარჯოს! |6|7
ar|لبيك اللهم لبيك |6|9
he|תודה רבה. |5|4
fa|آفرین |10|7
hi|वंदे मातरम् |6|6
hi|नहीं |8|3
bn|না |12|3
th|ขอบคุณค่ะ|6|6
my|ကျေးဇူးတင်ပါတယ်|5|7
zh|加油|8|5
zh|哈|14|3
zh|请稍候。|6|7
ja|がんばれ|8|6
ja|わっしょい|10|8
ko|대한민국 |8|8
ko|감사합니다. |6|5
am|እግዚአብሔር ይመስገን |5|8
""")
MARKS = " .-。"
# Models that went round in circles: more than anybody says in the time.
RUNAWAY = listed("""
en|C-|112|5
en|Thank you. |90|30
en|I'm going to go to the store. |40|30
en|0|640|30
en|ha |400|30
de|Vielen Dank. |65|30
es|Subtítulos realizados por la comunidad. |20|30
ru|Продолжение следует... |40|30
el|Ευχαριστώ. |80|30
ka|მადლობა. |100|30
ar|شكرا |170|30
he|תודה |170|30
hi|धन्यवाद। |90|30
th|ขอบคุณ|140|30
my|ကျေးဇူး|210|30
zh|谢谢观看|65|30
ja|ご視聴ありがとうございました。|35|30
ko|감사합니다. |90|30
""")


@pytest.mark.parametrize(("language", "said", "times", "seconds"), REPEATED)
def test_what_people_repeat_is_left_to_them(language, said, times, seconds):
    assert unsaid(said * times, seconds) == []
    sentence, more = SOUND.get(language, ("", 0.0))
    assert unsaid(f"{sentence} {said * times} {sentence}", seconds + 2 * more) == []


@pytest.mark.parametrize(("language", "said", "times", "seconds"), RUNAWAY)
def test_more_rounds_than_fit_are_a_loop(language, said, times, seconds):
    text = said * times
    assert without(text, unsaid(text, seconds)).strip(MARKS) == said.strip(MARKS)
    # If the decoder ran into its end, of far fewer rounds, too.
    fewer = said * max(times // 3, 10)
    assert unsaid(fewer, 30.0) == []
    assert cut(fewer, 30.0).strip(MARKS) == said.strip(MARKS)


def test_where_the_text_fits_without_a_loop_another_one_stays():
    text = "Bravo! " * 8 + "Thank you. " * 90
    assert without(text, unsaid(text, 30.0)) == "Bravo! " * 8 + "Thank you."


@pytest.mark.parametrize("language", SOUND)
def test_a_loop_is_cut_behind_its_first_round_in_any_script(language):
    sentence, seconds = SOUND[language]
    again = AGAIN[language]
    assert unsaid(sentence, seconds) == [] and unsaid(sentence + again, seconds + 1) == []
    assert unsaid(sentence + again * 2, seconds + 2) == []
    letters = regex.findall(r"\P{M}\p{M}*", again)
    for times, part in ((20, 0), (33, 2), (100, 3)):
        looping = sentence + again * times + "".join(letters[:part])
        assert cut(looping, 30.0) == sentence + again, times
    # What is said behind it stays.
    space = " " * again.startswith(" ")
    behind = space + sentence
    assert cut(sentence + again * 20 + behind, 30.0) == sentence + again + behind


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("kappa C-" + "C-" * 111, "kappa C"),
        ("A" + "a" * 100 + "h! Stop it.", "Ah! Stop it."),
        ("the cat, the cat, " * 12 + "the dog", "the cat, the dog"),
        ("Well: no " + "no " * 20 + "not that", "Well: no not that"),
        ('"Yes." ' + '"No." ' * 20, '"Yes." "No."'),
        ("a hot " + "the cat " * 20, "a hot the cat"),  # a round may begin with the t before
        ("क का कि की कु कू " * 9, "क का कि की कु कू"),
        (". " * 222, "."),
        ("x " + "1 2 3 4 " * 9 + "y " + "uno due " * 9, "x 1 2 3 4 y uno due"),
    ],
)
def test_words_stay_whole_where_a_loop_is_of_words(text, rest):
    assert cut(text, 30.0) == rest


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no, not at all",
        "ha ha ha ha ha ha ha ha",
        "Row, row, row your boat. Row, row, row your boat.",
        "कक का कि की कु कू के कै को कौ " * 3,  # of which only the marks differ
        "1000000000000 0000",
        "...... - - - - - ?!?!?!",
        "a" + " ." * 100,  # which says nothing
        "",
    ],
)
def test_what_is_said_a_few_times_is_no_loop(text):
    assert unsaid(text, 10.0) == []


def strange(count, letters, seed=0):
    """A text without repetitions."""
    return "".join(random.Random(seed).choices(letters, k=count))


SCRIPTS = [
    (30, "abcdefghijklmnopqrstuvwxyz0123456789"),
    (30, "абвгдежзийклмнопрстуфхцчшщэюя"),
    (20, "कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह"),
    (20, "あいうえおかきくけこさしすせそたちつてとなにぬねの"),
    (12, "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去"),
]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 3.0, 29.9])
@pytest.mark.parametrize(("fastest", "letters"), SCRIPTS)
def test_no_more_letters_than_are_said_in_a_second(fastest, letters, seconds):
    most = int(fastest * (seconds + 1 / 3) + 1e-9)
    text = strange(2 * most, letters)
    assert not too_much(text[:most], seconds) and unsaid(text[:most], seconds) == []
    assert too_much(text[: most + 1], seconds)
    assert cut(text, seconds) == text[:most]
    marked = "".join(f"{letter}\u0301, " for letter in text)  # marks and the like take no time
    assert cut(marked, seconds).count("\u0301") == most


def words(letters, least):
    return st.lists(st.text(letters, min_size=1, max_size=9), min_size=least, max_size=5)


@settings(deadline=None, max_examples=60)
@given(words("abc", 0), words("xyz", 1), st.integers(4, 60), words("def", 0))
def test_of_what_is_made_by_repeating_one_round_is_left(before, again, times, behind):
    text = " ".join([*before, *again * times, *behind])
    rest = cut(text, 60.0)
    assert unsaid(rest, 60.0) == []
    assert [x for x in rest if x in "def"] == [x for x in text if x in "def"]
    one = "".join(again)
    if len(one) * (times - 1) < 30:
        assert rest == text
    elif one not in (one + one)[1:-1] and unsaid(one, 60.0) == []:  # which repeats nothing itself
        assert rest == " ".join([*before, *again, *behind])


def test_references_are_not_cut(clips):
    for path, _, text in clips:
        assert unsaid(text, sounding_seconds(load_audio(path))) == []
