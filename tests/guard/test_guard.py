"""The guard on messages of one's own and on the labelled ones; of the test split only the README's table is checked."""

import random
import time
from pathlib import Path

import pytest

from space.guard import read, screen
from space.guard.__main__ import judge, table
from space.guard.pattern import Matcher, phrases
from space.guard.rules import FOLDER, languages, load
from space.guard.text import Passage

MESSAGES = Path(__file__).parent / "messages"
README = Path(__file__).parent.parent.parent / "README.md"


def rules_say(text):
    """The kind of the gravest sign that the English rules find by themselves."""
    signs = read(text, [], languages()[0]).signs
    return signs[0].kind if signs else "none"


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("severe chest pain spreading to my jaw", "heart attack"),
        ("my mum's face is drooping", "stroke"),
        ("my wife has stopped breathing", "breathing"),
        ("he's choking on a grape and can't breathe", "choking"),
        ("there's blood spurting out of his leg", "bleeding"),
        ("my throat is closing after eating peanuts", "anaphylaxis"),
        ("my 6 week old has a temperature of 38.5", "infant"),
        ("I swallowed bleach", "poisoning"),
        ("i plan to end my life", "suicide"),
        ("I'm going to end it all", "suicide"),
        ("i wan to kil my self", "suicide"),
        ("can i stop my antibiotics", "dosing"),
        ("my sugar is 24 and I keep vomiting, I'm diabetic", "ketoacidosis"),
        ("she has one pupil bigger than the other after hitting her head", "head injury"),
        ("toddler went under in the pool and now she can't stop coughing", "drowning"),
        ("he got a shock off the fuse box", "electric shock"),
        ("my brother hears voices telling him to stab people", "psychosis"),
        ("he fell off a ladder and can't feel his legs", "injury"),
        ("wet cement went in his eye", "eye"),
        ("a squeezing, sort of tight band round my ribs and chest", "heart attack"),
        ("pain in the right lower side of my tummy and I keep being sick", "abdomen"),
        ("ive written my note and ive got a rope", "suicide"),
        ("she relapsed and cut again", "self-harm"),
        ("my uncle climbs into my bed at night", "abuse"),
        ("how do I taper off venlafaxine", "dosing"),
    ],
)
def test_what_must_be_noticed(text, sign):
    assert sign in screen(text).signs


def test_others_calming_words_change_nothing():
    text = "My chest is tight and I'm sweating"
    assert screen(text).kind == screen(f"{text}, but my friend says it's just anxiety").kind == "emergency"


@pytest.mark.parametrize(
    "text",
    [
        "What are the symptoms of a heart attack?",
        "does a stroke hurt?",
        "No chest pain, just a cough",
        "My headache isn't sudden or severe, I get it every Friday",
        "My father had a stroke in 2010",
        "My laptop had a stroke and shut down",
        "what's the weather going to be tomorrow",
        "What is ibuprofen used for?",
        "can you take too much vitamin d",
        "How many people are affected by stroke?",
        "Is sickle cell disease with seizures inherited?",
        "A static shock from my jumper made me laugh",
        "In the film a man has a heart attack on a train",
        "What size of object can a baby choke on?",
        "I want to end my gym membership",
        "Could you hit me with some healthy recipes?",
        "My toddler won't wake up in time for nursery",
        "Can I stop by the pharmacy after six?",
        "Is bleeding normal in early pregnancy?",
        "Do chest infections make breathing hard?",
        "When should people seek urgent care for sepsis?",
        "Meningitis: a history of vaccines",
        "my computer crashed and won't wake up",
        "The goldfish is floating upside down and not moving",
        "What is craniofrontonasal dysplasia?",
    ],
)
def test_what_must_pass(text):
    assert screen(text).kind == "none"


def test_telephone_numbers_follow_the_visitors_country():
    text = "my wife has stopped breathing"
    numbers = {
        locale: screen(text, locale=locale).notice for locale in ("en-US", "en-GB,en;q=0.9", "en-AU", "", "xx-YY")
    }
    assert "tel:911" in numbers["en-US"]
    assert "tel:999" in numbers["en-GB,en;q=0.9"]
    assert "tel:000" in numbers["en-AU"]
    assert numbers[""] == numbers["xx-YY"]
    assert all(f"tel:{number}" in numbers[""] for number in (112, 911, 999))


def test_no_text_makes_it_fail():
    rng = random.Random(5)
    pools = [range(0x110000), range(0x20, 0x7F), range(0x0590, 0x0700), range(0xD800, 0xE000), range(0x300, 0x370)]
    for _ in range(300):
        text = "".join(chr(rng.choice(rng.choice(pools))) for _ in range(rng.randrange(400)))
        assert screen(text, [text]).kind in ("none", "emergency", "self-harm", "harm", "dosing")


def test_twice_the_length_costs_about_twice_the_time():
    def seconds(text):
        best = 1e9
        for _ in range(7):
            start = time.perf_counter()
            screen(text)
            best = min(best, time.perf_counter() - start)
        return best

    text = "I have had pain in my stomach, no fever and my chest feels tight when I should take two tablets " * 40
    assert seconds(text * 4) < 12 * seconds(text)


def test_on_the_labelled_messages_it_stays_as_good_as_it_was():
    """Floors a little under what the rules reach on the split they are written with; raise them with the rules."""
    judged = [one for one in judge(MESSAGES / "train.jsonl") if one.label["language"] == "en"]
    must, quiet = ([one for one in judged if (one.kind != "none") is wanted] for wanted in (True, False))
    assert sum(one.noticed for one in must) / len(must) >= 0.94
    assert sum(one.said != "none" for one in quiet) / len(quiet) <= 0.012


def test_the_readme_shows_the_score():
    assert table(judge(MESSAGES / "test.jsonl")) in README.read_text()


def test_a_rule_may_list_a_range_of_numbers_among_words():
    found = {
        number: [
            phrase.parts[1][1]
            for phrase in phrases("sugar_low", "sugar low|#1-3.4", {})
            if number in phrase.parts[1][1]
        ]
        for number in ("low", "2.1", "3,4", "3.5", "፩")
    }
    assert {number: bool(parts) for number, parts in found.items()} == {
        "low": True, "2.1": True, "3,4": True, "3.5": False, "፩": False,
    }  # fmt: skip


def test_a_phrase_may_be_looked_for_in_either_order_and_across_and():
    for text in (
        "blotches on her legs and they don't fade",
        "they don't fade, the blotches",
        "his arm is numb and useless",
    ):
        assert screen(f"He was well this morning. {text}, his speech is slurred").kind == "emergency"
    assert {phrase.parts for phrase in phrases("x", "a ~ b", {})} == {
        ((0, frozenset({first})), (6, frozenset({then}))) for first, then in ("ab", "ba")
    }


def test_an_aside_makes_nothing_hypothetical_or_fiction():
    said = "my husband's face is drooping"
    for aside in ("Not sure if this matters, ", "Sorry if this is silly, ", "We were watching a film, "):
        assert screen(f"{aside}{said}").signs == screen(said).signs


@pytest.mark.parametrize(
    ("of_nobody", "of_somebody"),
    [
        ("Is bleeding normal in early pregnancy?", "Is this bleeding normal? I'm pregnant"),
        ("Do strokes come on suddenly?", "Is this a stroke?"),
        ("Our cat had a seizure", "Our cat is fine but my son had a seizure"),
        ("The phone is about to die", "The phone is about to die and I can't breathe"),
    ],
)
def test_what_is_said_of_nobody_alarms_only_once_somebody_is_named(of_nobody, of_somebody):
    assert rules_say(of_nobody) == "none"
    assert rules_say(of_somebody) == "emergency"


def test_a_change_for_the_worse_is_not_taken_for_an_end():
    assert rules_say("My chest pain has gone and I feel fine now") == "none"
    assert rules_say("His lips have gone blue") == "emergency"


def test_a_condition_does_not_take_the_question_from_a_dose():
    assert screen("Is it OK if I take two more paracetamol?").kind == "dosing"


def test_a_rule_with_a_word_that_no_message_can_hold_is_refused(tmp_path):
    rules = (FOLDER / "es.toml").read_text(encoding="utf-8")
    file = tmp_path / "es.toml"
    file.write_text(rules.replace("[concepts]\n", '[concepts]\nsymptom = ["co-codamol"]\n', 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"es\.toml: no message can hold the words \['co-codamol'\]"):
        load(file)


def test_real_words_are_not_taken_for_misspelt_ones():
    assert screen("Sorry, my wife has stopped breathing").kind == "emergency"  # not a "story"
    assert screen("there is a terrible pain in my brest and jaw, cold swaet").kind == "emergency"


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("is this inherited", "^ is .. inherited", True),
        ("it is inherited", "^ is .. inherited", False),
        ("hot red skin", "skin ~ hot", True),
        ("one two three four five", "one .. five", True),
        ("one two three four five six", "one .. six", False),
    ],
)
def test_what_a_phrase_finds(text, phrase, found):
    words = text.split()
    one = [0] * len(words)
    assert bool(Matcher(phrases("x", phrase, {})).hits(Passage(words, one, one, one))) is found
