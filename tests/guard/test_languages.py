"""The rules of the guard in other languages than English, on messages of one's own."""

import pytest

from space.guard import screen
from space.guard.rules import FOLDER, languages, load, spoken
from space.guard.text import Speller, fold, tokens

OTHERS = ("ar", "de", "es", "fr", "hi")
FOUND = {
    "es": {
        "emergency": ["me duele mucho el pecho y estoy sudando", "mi madre no puede hablar y tiene la boca torcida"],
        "self-harm": ["quiero suicidarme"],
        "harm": ["mi marido me pega"],
        "dosing": ["¿cuántas pastillas de paracetamol puedo tomar?"],
    },
    "fr": {
        "emergency": ["j'ai très mal à la poitrine et des sueurs", "ma mère a la bouche tordue et parle bizarrement"],
        "self-harm": ["je veux me suicider"],
        "harm": ["mon mari me frappe"],
        "dosing": ["combien de comprimés de paracétamol je peux prendre ?"],
    },
    "de": {
        "emergency": ["Ich habe starke Brustschmerzen und schwitze", "meine mutter bekommt keine luft"],
        "self-harm": ["ich will mich umbringen"],
        "harm": ["mein Mann schlägt mich"],
        "dosing": ["Wie viele Tabletten Paracetamol darf ich nehmen?"],
    },
    "ar": {
        "emergency": ["أشعر بألم شديد في صدري وأتعرق", "بابا مش قادر ياخد نفسه"],
        "self-harm": ["أريد أن أقتل نفسي"],
        "harm": ["زوجي يضربني"],
        "dosing": ["كم حبة بنادول أستطيع أن آخذ؟"],
    },
    "hi": {
        "emergency": ["मेरे सीने में बहुत दर्द है और पसीना आ रहा है", "mere papa ko saans nahi aa rahi hai"],
        "self-harm": ["mujhe khudkushi karni hai"],
        "harm": ["मेरा पति मुझे मारता है"],
        "dosing": ["मुझे पैरासिटामोल की कितनी गोलियाँ लेनी चाहिए?"],
    },
}
PASSED = {
    "es": [
        "No tengo dolor en el pecho",
        "¿Cuáles son los síntomas de un infarto?",
        "Mi abuelo tuvo un ictus hace 10 años",
    ],
    "fr": [
        "Je n'ai pas mal à la poitrine",
        "Quels sont les symptômes d'un AVC ?",
        "Il y a 10 ans mon père a eu un AVC",
    ],
    "de": [
        "Ich habe keine Brustschmerzen",
        "Was sind die Anzeichen eines Schlaganfalls?",
        "Vor 10 Jahren hatte er einen Schlaganfall",
    ],
    "ar": ["ليس عندي ألم في الصدر", "ما هي أعراض السكتة الدماغية؟", "أصيب جدي بجلطة قبل عشر سنوات"],
    "hi": ["मुझे सीने में दर्द नहीं है", "स्ट्रोक के लक्षण क्या हैं?", "पाँच साल पहले मुझे हार्ट अटैक आया था"],
}


@pytest.mark.parametrize("language", OTHERS)
def test_a_file_has_all_that_english_has_to_say(language):
    rules, english = load(FOLDER / f"{language}.toml"), load(FOLDER / "en.toml")
    assert rules.language == language
    assert rules.notices.keys() == english.notices.keys()
    assert rules.right_to_left is (language == "ar")
    assert {sign.id for sign in rules.signs} <= {sign.id for sign in english.signs}
    assert {sign.kind for sign in rules.signs} == {"emergency", "self-harm", "harm", "dosing"}


@pytest.mark.parametrize(
    ("language", "kind", "text"),
    [(language, kind, text) for language, kinds in FOUND.items() for kind, texts in kinds.items() for text in texts],
)
def test_a_plain_message_is_noticed_and_answered_in_its_language(language, kind, text):
    verdict = screen(text)
    assert (verdict.kind, verdict.language) == (kind, language)
    assert kind == "dosing" or "tel:112" in verdict.notice


@pytest.mark.parametrize("text", [text for texts in PASSED.values() for text in texts])
def test_what_is_denied_learnt_or_long_past_is_left_alone(text):
    assert screen(text).kind == "none"


@pytest.mark.parametrize("text", ["My chest hurts, is it bad?", "What is the dose of aspirin for a man?", "pain"])
def test_english_is_read_as_english_only(text):
    assert [rules.language for rules in spoken(fold(text))] == ["en"]


def test_spellings_of_one_word_are_one():
    assert fold("أَلَم إلى مدرسة") == fold("الم الي مدرسه")
    assert tokens(fold("साँस")) == tokens(fold("सांस"))
    assert fold("cœur") == "coeur"
    assert Speller(["صدر"], [], {}, ["و", "ال"], ["ي"])("وصدري") == "صدر"


def test_english_comes_first():
    assert languages()[0].language == "en"
