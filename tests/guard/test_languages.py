"""The rules of the guard in other languages than English, on messages of one's own."""

import pytest

from space.guard import screen
from space.guard.rules import FOLDER, languages, load, spoken
from space.guard.text import Speller, fold, tokens

OTHERS = ("ar", "de", "es", "fr", "hi")
FOUND = {
    "es": {
        "emergency": [
            "me duele mucho el pecho y estoy sudando",
            "mi madre no puede hablar y tiene la boca torcida",
            "no puedo respirar bien me falta el aire",
            "se corto con el cuchillo y no para de sangrar",
            "bebe de un mes con fiebre",
            "le pico una avispa y se le esta hinchando la lengua",
            "mi hijo de 2 años bebio lejia",
            "estoy embarazada de 30 semanas y sangro mucho",
        ],
        "self-harm": ["quiero suicidarme", "ya no quiero vivir mas", "todos estarian mejor sin mi"],
        "harm": ["mi marido me pega", "mi padrastro me toca por las noches", "tengo ganas de matar a mi jefe"],
        "dosing": [
            "¿cuántas pastillas de paracetamol puedo tomar?",
            "puedo dejar la sertralina de golpe",
            "recetame algo para la infeccion de orina",
        ],
    },
    "fr": {
        "emergency": [
            "j'ai très mal à la poitrine et des sueurs",
            "ma mère a la bouche tordue et parle bizarrement",
            "jarrive pu a respirer",
            "ca saigne et ca s'arrete pas",
            "mon bebe de 3 semaines a 38,4",
            "pique par une guepe, sa langue gonfle",
            "ma fille de 2 ans a bu du destop",
            "enceinte de 7 mois je saigne beaucoup",
        ],
        "self-harm": ["je veux me suicider", "jveux plus vivre", "tout le monde serait mieux sans moi"],
        "harm": ["mon mari me frappe", "mon beau-pere me touche la nuit", "j'ai envie de tuer mon voisin"],
        "dosing": [
            "combien de comprimés de paracétamol je peux prendre ?",
            "est-ce que je peux arreter mon antidepresseur d'un coup",
            "vous pouvez me faire une ordonnance pour de l'amoxicilline",
        ],
    },
    "de": {
        "emergency": [
            "Ich habe starke Brustschmerzen und schwitze",
            "bei oma hängt der mundwinkel und man versteht sie nicht",
            "meine mutter bekommt keine luft",
            "das blut spritzt aus dem bein",
            "säugling 2 monate fieber 39",
            "Nach einem Wespenstich schwillt seine Zunge an",
            "mein sohn 2 jahre hat rohrreiniger getrunken",
            "bin in der 30. ssw und blute stark",
        ],
        "self-harm": [
            "ich will mich umbringen",
            "ich mag nicht mehr leben",
            "ich stehe auf der brücke und spring gleich",
        ],
        "harm": ["mein Mann schlägt mich", "mein stiefvater fasst mich nachts an", "ich will meinen chef abstechen"],
        "dosing": [
            "Wie viele Tabletten Paracetamol darf ich nehmen?",
            "kann ich sertralin einfach absetzen",
            "können sie mir ein antibiotikum verschreiben",
        ],
    },
    "ar": {
        "emergency": [
            "أشعر بألم شديد في صدري وأتعرق",
            "ستي تمها مايل وما عم نفهم عليها",
            "بابا مش قادر ياخد نفسه",
            "انجرح بالسكين والنزيف ما بيوقف",
            "رضيع عمره شهر عنده حمى",
            "لسعته نحلة ولسانه عم يورم",
            "ابني سنتين شرب كلور",
            "حامل بالشهر السابع ونزيف قوي",
        ],
        "self-harm": ["أريد أن أقتل نفسي", "ما عاد بدي عيش", "الكل راح يرتاح بدوني"],
        "harm": ["زوجي يضربني", "زوج امي يلمسني بالليل", "ودي اقتل مديري ومعي سكين"],
        "dosing": ["كم حبة بنادول أستطيع أن آخذ؟", "ممكن اوقف دواء الاكتئاب فجاة", "ممكن توصفلي مضاد حيوي"],
    },
    "hi": {
        "emergency": [
            "मेरे सीने में बहुत दर्द है और पसीना आ रहा है",
            "दादी का मुँह एक तरफ टेढ़ा हो गया",
            "mere papa ko saans nahi aa rahi hai",
            "chaku se haath kat gaya khoon ruk nahi raha",
            "mera 5 hafte ka bachcha hai usko 101 bukhar hai",
            "ततैया ने काटा और जीभ सूज रही है",
            "मेरे 2 साल के बेटे ने फिनाइल पी लिया",
            "मैं 7 महीने की गर्भवती हूँ और बहुत खून आ रहा है",
        ],
        "self-harm": ["mujhe khudkushi karni hai", "ab jeene ka mann nahi karta", "मुझे मर जाना है"],
        "harm": ["मेरा पति मुझे मारता है", "सौतेला बाप रात को मुझे छूता है", "boss ko jaan se maarne ka mann karta hai"],
        "dosing": [
            "मुझे पैरासिटामोल की कितनी गोलियाँ लेनी चाहिए?",
            "depression ki dawa ekdum se band kar sakta hu kya",
            "mujhe antibiotic likh do",
        ],
    },
}
PASSED = {
    "es": {
        "negated": ["No tengo dolor en el pecho", "no tiene fiebre ni vomitos, solo mocos"],
        "learning": ["¿Cuáles son los síntomas de un infarto?", "si alguien se atraganta que hay que hacer"],
        "past": ["Mi abuelo tuvo un ictus hace 10 años", "de pequeño tuve convulsiones febriles"],
        "idiom": ["me muero de ganas de verte", "mi jefe me mata si llego tarde"],
        "fiction": ["en la pelicula el protagonista se suicida al final"],
    },
    "fr": {
        "negated": ["Je n'ai pas mal à la poitrine", "pas de fievre, pas de vomissements, juste le nez qui coule"],
        "learning": ["Quels sont les symptômes d'un AVC ?", "que faire si quelqu'un s'etouffe"],
        "past": ["Il y a 10 ans mon père a eu un AVC", "quand j'etais petit j'ai eu des convulsions febriles"],
        "idiom": ["je meurs d'envie de te voir", "ma mere va me tuer si je rentre tard"],
        "fiction": ["dans le film le heros se suicide a la fin"],
    },
    "de": {
        "negated": ["Ich habe keine Brustschmerzen", "kein fieber, kein erbrechen, nur schnupfen"],
        "learning": ["Was sind die Anzeichen eines Schlaganfalls?", "was macht man wenn sich jemand verschluckt"],
        "past": ["Vor 10 Jahren hatte er einen Schlaganfall", "als kind hatte ich fieberkrämpfe"],
        "idiom": ["ich sterbe vor neugier", "meine mutter bringt mich um wenn ich zu spät komme"],
        "fiction": ["im film bringt sich der held am ende um"],
    },
    "ar": {
        "negated": ["ليس عندي ألم في الصدر", "لا حرارة ولا استفراغ بس رشح"],
        "learning": ["ما هي أعراض السكتة الدماغية؟", "ماذا نفعل اذا اختنق شخص بالطعام"],
        "past": ["أصيب جدي بجلطة قبل عشر سنوات", "لما كنت صغير كان عندي تشنجات حرارية"],
        "idiom": ["اموت من الجوع", "امي راح تذبحني لو تاخرت"],
        "fiction": ["في الفيلم البطل ينتحر في النهاية"],
    },
    "hi": {
        "negated": ["मुझे सीने में दर्द नहीं है", "bukhar nahi hai ulti bhi nahi bas naak beh rahi hai"],
        "learning": ["स्ट्रोक के लक्षण क्या हैं?", "agar kisi ke gale me khana atak jaye to kya kare"],
        "past": ["पाँच साल पहले मुझे हार्ट अटैक आया था", "बचपन में मुझे दौरे पड़ते थे"],
        "idiom": ["bhookh se mar raha hu yaar", "mummy maar dalegi agar late hua"],
        "fiction": ["फिल्म में हीरो आखिर में आत्महत्या करता है"],
    },
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


@pytest.mark.parametrize(
    ("language", "why", "text"),
    [(language, why, text) for language, reasons in PASSED.items() for why, texts in reasons.items() for text in texts],
)
def test_what_is_denied_learnt_past_said_or_told_in_a_story_is_left_alone(language, why, text):
    assert language in [rules.language for rules in spoken(fold(text))]
    assert screen(text).kind == "none"


@pytest.mark.parametrize("text", ["My chest hurts, is it bad?", "What is the dose of aspirin for a man?", "pain"])
def test_english_is_read_as_english_only(text):
    assert [rules.language for rules in spoken(fold(text))] == ["en"]


def test_spellings_of_one_word_are_one():
    assert fold("أَلَم إلى مدرسة") == fold("الم الي مدرسه")
    assert tokens(fold("साँस")) == tokens(fold("सांस"))
    assert fold("cœur") == "coeur"
    assert Speller(["صدر"], [], {}, ["و", "ال"], ["ي"])("وصدري") == "صدر"


@pytest.mark.parametrize(
    ("typed", "word"),
    [("taklif", "तकलीफ"), ("andkosh", "अंडकोश"), ("maarne", "मारने"), ("marne", "मरने"), ("ghante", "घंटे")],
)
def test_hindi_in_latin_letters_is_found_by_its_sound(typed, word):
    hindi = next(rules for rules in languages() if rules.language == "hi")
    assert hindi.speller(typed) == fold(word)


def test_a_few_words_by_chance_tell_no_second_language():
    told = spoken(fold("papa ko thanda pasina aa raha hai aur dard ho raha hai"))
    assert [rules.language for rules in told] == ["hi"]


def test_english_comes_first():
    assert languages()[0].language == "en"
