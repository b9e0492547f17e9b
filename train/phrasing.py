"""How people ask: every kind of question in many wordings, clean and careless. Pure; the same generator, the same words.

A template is written with `{x}` for the name with its article ("a stroke"), `{n}` for the bare name, `{is}` and `{does}`
for the verbs that agree with it. Lines above `---` are trained on; those below are held out, for the check.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

CANONICAL: dict[str, str] = {
    "symptoms": "What are the symptoms of {n}?",
    "causes": "What causes {n}?",
    "treatment": "How {is} {n} treated?",
    "prevention": "How can {n} be prevented?",
    "doctor": "When should I see a doctor about {n}?",
    "steps": "What is the first aid for {n}?",
    "why": "Why {is} {x} done?",
    "prepare": "How do I prepare for {x}?",
    "during": "What happens during {x}?",
    "results": "What do the results of {x} mean?",
    "need": "Why does the body need {n}?",
    "sources": "Which foods contain {n}?",
    "deficiency": "What happens if you lack {n}?",
    "excess": "Can you have too much {n}?",
    "uses": "What {is} {n} used for?",
    "how": "How {does} {n} work?",
    "effects": "What are the side effects of {n}?",
    "care": "Who should be careful with {n}?",
    "what": "What {is} {x}?",  # last: it would match "What are the symptoms of …" too
}
"""The question that stands for a kind in sample.jsonl."""


@dataclass(frozen=True)
class Name:
    """A name inside a sentence: "stroke", its article with the space after it ("a "), whether the verb is plural."""

    text: str
    article: str = ""
    plural: bool = False

    @classmethod
    def guess(cls, text: str) -> Name:
        """A bare name; plural if it ends like one ("cold sores"), which decides its verbs."""
        return cls(text, plural=bool(re.search(r"[^sui]s$", text)) and not text.endswith(("es", "ps")))


def canonical(kind: str, name: Name) -> str:
    """The canonical question of `kind`."""
    return _fill(CANONICAL[kind], name)


def parse_canonical(question: str) -> tuple[str, Name]:
    """The kind and the name of a canonical question. Raises `ValueError` when it is none."""
    for kind, template in CANONICAL.items():
        pattern = re.escape(template).replace(r"\{is\}", r"(?P<verb>is|are)").replace(r"\{does\}", r"(?P<verb>does|do)")
        pattern = pattern.replace(r"\{n\}", r"(?P<name>.+?)").replace(
            r"\{x\}", r"(?P<article>(?:an?|the) )?(?P<name>.+?)"
        )
        if match := re.fullmatch(pattern, question):
            parts = match.groupdict()
            return kind, Name(parts["name"], parts.get("article") or "", parts.get("verb") in ("are", "do"))
    raise ValueError(f"not a canonical question: {question!r}")


def _fill(template: str, name: Name) -> str:
    verbs = {"is": "are", "does": "do"} if name.plural else {"is": "is", "does": "does"}
    return template.format(n=name.text, x=name.article + name.text, **verbs)


def templates(kind: str, held_out: bool = False) -> list[str]:
    """The wordings of a kind: those for training, or those held out of it for every topic."""
    train, held = (part.splitlines() for part in _TEMPLATES[kind].strip().split("\n---\n"))
    return held[-2:] if held_out else train + held[:-2]


def follow_ups(kind: str, held_out: bool = False) -> list[str]:
    """Wordings that do not name the topic ("how is it treated?") and lean on the turn before."""
    train, held = (part.split(" | ") for part in _FOLLOW_UPS[kind].split(" --- "))
    return held[-1:] if held_out else train + held[:-1]


def ask(
    kind: str, name: Name, rng: Random, held_out: bool = False, without: Collection[str] = (), pieced: float = 0.5
) -> str:
    """One tidy wording of the question of `kind` about `name`; now and then in two sentences ("I have gout. Is it serious?").

    `without` names templates that are not to be used; `pieced` is the share of wordings put together from a frame and a
    phrase instead of taken from the templates, where a kind has both.
    """
    if not held_out and kind in _FOLLOW_UPS and rng.random() < 0.08:
        stories = _STORIES + _ILLNESS_STORIES if kind in _ILLNESS else _STORIES
        return sentence(_fill(rng.choice(stories), name)) + " " + sentence(rng.choice(follow_ups(kind)))
    if not held_out and kind in _PHRASES and rng.random() < pieced:
        return sentence(_fill(phrase(kind, rng), name))
    return sentence(_fill(rng.choice([t for t in templates(kind, held_out) if t not in without]), name))


def fill(template: str, name: Name) -> str:
    """A template with the name in it, as a sentence."""
    return sentence(_fill(template, name))


def phrase(kind: str, rng: Random) -> str:
    """A training template put together from a frame ("is there a way to …") and a phrase of the kind ("ward off {x}")."""
    while True:
        form, phrases = rng.choice([line.split(": ", 1) for line in _PHRASES[kind].strip().splitlines()])
        template = rng.choice(_FRAMES[form].split("|")).replace("*", rng.choice(phrases.split(" | ")))
        if template.lower().rstrip("?. ") not in {
            text.lower().rstrip("?. ") for text in templates(kind, held_out=True)
        }:
            return template


def sentence(text: str) -> str:
    """`text` with a capital at the start."""
    return text[:1].upper() + text[1:]


def careless(text: str, rng: Random, shouted: float = 0.05) -> str:
    """`text` as people type it: in lower case, without its question mark, wrapped in a greeting, with a slip or two.

    `shouted` is the share of capitals among what is not in lower case.
    """
    if rng.random() < 0.06:
        text = clipped(text, rng)
    if rng.random() < 0.30:
        text = wrap(text, rng)
    if rng.random() < 0.45:
        text = text.lower()
    elif rng.random() < shouted:
        text = text.upper()
    if rng.random() < 0.40:
        text = text.rstrip("?.! ")
    elif rng.random() < 0.08:
        text = text.rstrip("?.! ") + rng.choice(["??", "???", " ?", ".", "...", "!", "?!"])
    if rng.random() < 0.22:
        text = misspell(text, rng)
        if rng.random() < 0.2:
            text = misspell(text, rng)
    return text


def wrap(text: str, rng: Random) -> str:
    """`text` after a greeting or a bit of story, or before a word of thanks."""
    before, after = "", ""
    choice = rng.random()
    if choice < 0.7:
        before = rng.choice(_OPENERS)
    if choice > 0.5:
        after = rng.choice(_CLOSERS)
    body = text[:1].lower() + text[1:] if before and text[1:2].islower() and rng.random() < 0.7 else text
    return before + (body.rstrip("?.! ") + after if after else body)


def clipped(text: str, rng: Random) -> str:
    """`text` without some of its small words, as one types in a hurry."""
    kept = [word for word in text.split() if word.lower() not in _SMALL or rng.random() < 0.4]
    return " ".join(kept) if len(kept) > 1 else text


_SMALL_WORDS = (
    "an the is are do does of to for i my me you it in that what how when and with should can"  # not "a": vitamin A
)
_SMALL = frozenset(_SMALL_WORDS.split())
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {c: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in _ROWS for i, c in enumerate(row)}
_VOWELS = "aeiou"


def misspell(text: str, rng: Random) -> str:
    """`text` with one slip of the finger or of the ear in a word of at least four letters, else unchanged."""
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    match = rng.choice(words)
    word = match.group()
    at = rng.randrange(1, len(word) - 1)
    slip = rng.randrange(6)
    if slip == 0:
        word = word[:at] + word[at + 1 :]
    elif slip == 1:
        word = word[:at] + word[at] + word[at:]
    elif slip == 2:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif slip == 3:
        word = word[:at] + rng.choice(_NEIGHBOURS[word[at].lower()]) + word[at + 1 :]
    elif slip == 4:  # a vowel heard as another
        spots = [i for i, c in enumerate(word) if c in _VOWELS and i] or [at]
        at = rng.choice(spots)
        word = word[:at] + rng.choice(_VOWELS) + word[at + 1 :]
    else:  # a doubled letter written once, or the last letter forgotten
        shorter = re.sub(r"(.)\1", r"\1", word)
        word = shorter if shorter != word else word[:-1]
    return text[: match.start()] + word + text[match.end() :]


def invented_name(rng: Random) -> str:
    """A name that sounds medical, or just like a word, and means nothing."""
    if rng.random() < 0.5:
        name = rng.choice(_ROOTS) + rng.choice(_ENDINGS)
        return rng.choice(_MODIFIERS) + " " + name if rng.random() < 0.3 else name
    word = "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) for _ in range(rng.randint(1, 3))) + rng.choice(_CODAS)
    tail = rng.random()
    if tail < 0.25:
        return word + " " + rng.choice(_NOUNS)
    if tail < 0.35:
        return rng.choice(_MODIFIERS) + " " + word
    if tail < 0.40:
        return word.capitalize() + "'s " + rng.choice(["disease", "syndrome"])
    return word


_ROOTS = (
    "gastr cardi neur derm nephr hepat arthr my oste encephal cyst vascul lymph pancreat thyr spondyl fibr "
    "angi phleb kerat ot rhin laryng pharyng trache pleur pulmon bronchi col proct chol sial stomat gloss "
    "blephar retin uve scler chondr tend burs synov mening myel cerebr psych somn hem leuk thromb aden lip "
    "gluc kal natr calc ur vagin salping orchid prostat mast"
).split()
_ENDINGS = (
    "itis osis oma emia algia opathy oplasty ectomy oscopy ogram ometry orrhea osclerosis omalacia odynia "
    "uria ism iasis ospasm edema otomy ostomy ocele olysis oplegia asthenia otoxin amide azole idine opril "
    "olol amycin otriptan"
).split()
_MODIFIERS = (
    "acute chronic congenital juvenile pulmonary ocular renal hepatic cerebral spinal pelvic facial gastric "
    "viral fungal idiopathic hereditary silent atypical neonatal lupus diabetic cluster postural nocturnal "
    "severe benign malignant"
).split()
_NOUNS = (
    "disease syndrome fever test scan pills deficiency infection pain virus extract oil surgery therapy cream "
    "injections"
).split()
_ONSETS = ("b br c ch d dr f fl g gl gr h j k kl l m n p pl qu r s sk sl sn st t th tr v w z zh").split()
_NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "oo", "ou", "ie", "y"]
_CODAS = ("|n|x|rt|sh|l|m|ck|nd|ria|zine|itol|ber|ling|pox|thia|ton|gus").split("|")

_BEASTS = (
    "cats dogs horses rabbits hamsters pigs chickens goldfish parrots sheep goats mice rats turtles ponies puppies kittens "
    "birds snakes lizards frogs elephants monkeys bees donkeys ducks fish wolves tigers"
)
_PLACES = (
    "babies|newborns|toddlers|small children|teenagers|pregnancy|premature babies|children under two|athletes|astronauts|pilots|"
    "early pregnancy|the womb|plants|trees|robots|the middle ages|ancient Rome|the Bible|space|the army|medieval times|France|"
    "China|Africa|the movies|women who breastfeed|a two year old|elderly men|a six month old|young girls|a fetus|pregnant teenagers"
)
QUALIFIERS = (
    *(f"in {beast}" for beast in _BEASTS.split()), *(f"in my {beast.rstrip('s')}" for beast in _BEASTS.split()[:20]),
    *(f"for my {beast.rstrip('s')}" for beast in _BEASTS.split()[:14]), *(f"of {beast}" for beast in _BEASTS.split()[:8]),
    *(f"in {place}" for place in _PLACES.split("|")), "during pregnancy", "while pregnant", "when pregnant", "while breastfeeding",
    "statistics in France", "of my dog", "of my horse", "for a baby", "for babies", "for newborns", "after childbirth",
    "---", "in cows", "in guinea pigs", "in pregnant women", "in infants", "for my pet",
)  # fmt: skip
"""What turns a topic the demo knows into one that it does not: the first are trained on, those after "---" held out."""


BESIDES = (
    "history of {n}", "the history of {x}", "what does {x} cost", "cost of {n} in dollars", "jokes about {n}", "movies about {n}",
    "a song about {n}", "how do you spell {n}", "what is {n} called in Spanish", "translate {n} into French", "etymology of {n}",
    "write a poem about {n}", "famous actors and {n}", "a novel about {x}", "is {n} good for my dog", "which singer had {n}",
    "research funding for {n}", "best hospital for {n} in London", "what percentage of people know about {n}", "pictures of {n}",
    "how old is the word {n}", "{n} t-shirt", "buy a book about {n}", "the best website about {n}", "quiz about {n}",
)  # fmt: skip
"""What can be asked about a known topic that none of its answers tells."""


def qualifiers(held_out: bool = False) -> list[str]:
    """The endings that make a known topic an unknown one."""
    cut = QUALIFIERS.index("---")
    return list(QUALIFIERS[cut + 1 :] if held_out else QUALIFIERS[:cut])


_ILLNESS = {"what", "symptoms", "causes", "treatment", "prevention", "doctor", "steps"}
_ILLNESS_STORIES = [
    "I have {x}.", "My sister has {x}.", "I was diagnosed with {n}.", "My grandfather suffers from {n}.", "I think I have {x}.",
    "My child has {x}.", "My husband had {x} last year.", "There is {n} in my family.", "I am afraid of {x}.",
]  # fmt: skip
_STORIES = [
    "About {n}:", "I read about {n}.", "A question on {n}.", "We talked about {n} at school.", "My doctor talked about {n}.",
    "{n}.", "I have a question about {n}.", "My question is about {n}:", "I want to ask about {x}.", "Regarding {n}:",
]  # fmt: skip
_OPENERS = [
    "hi, ", "Hi! ", "hello, ", "Hello. ", "hey ", "Hey, ", "Good morning, ", "good evening. ", "Dear doctor, ", "hi doctor, ",
    "Sorry to bother you, ", "quick question: ", "I have a question. ", "please help, ", "I am worried. ", "please tell me ",
    "So ", "ok so ", "Can you tell me ", "could you please tell me: ", "I would like to know: ", "just wondering, ",
    "My mother asks: ", "for a school project: ", "Hi there, I am 45 years old. ", "I am new here. ", "My friend wants to know, ",
    "I read something online and wonder, ", "My dad is 70. ", "Doctor, ", "um, ", "Excuse me, ", "Asking for my wife: ",
]  # fmt: skip
_CLOSERS = [
    "? Thanks", "? Thank you!", " please", ", please?", "? thx", "? I am worried.", " in simple words?", "? Please keep it short.",
    "? Thanks in advance.", " pls", "? I could not find it.", ", doctor?", "? My family wants to know.", " tell me", "?? help",
]  # fmt: skip

_TEMPLATES = {
    "what": """
What {is} {x}?
What exactly {is} {x}?
what's {x}
whats {n}
Can you explain {x}?
Can you explain what {x} {is}?
Tell me about {x}.
Tell me about {n}
tell me what {x} {is}
Please explain {n} in simple terms.
{n}
{n}
{n}?
{n} meaning
{n} explained
{n} info
what {is} {n}
define {n}
What does {n} mean?
What is meant by {n}?
I want to know what {x} {is}.
Give me some information about {n}.
my doctor mentioned {n}, what is that?
my mum was told about {n}, what is it?
I have heard of {n} but do not know what it is.
What do you know about {n}?
Could you describe {x} for me?
What kind of thing {is} {x}?
information on {n}
explain {n}
I would like to learn about {n}.
---
Help me understand {n}.
{n} - what is it?
In a few words, what {is} {x}?
What should I know about {n}?
I keep reading about {n}. What is it exactly?
give me an overview of {n}
""",
    "told": """
my mum was told she has {x}, what is it?
I was just diagnosed with {n}. What is that?
my son has {x}, what is it
They say I have {x}. What does that mean?
---
The doctor says my father has {x}. What is it?
""",
    "symptoms": """
What are the symptoms of {x}?
What are the symptoms of {n}?
{n} symptoms
{n} symptoms
symptoms of {n}
symptoms {n}
{n} signs
signs of {x}
What are the signs of {x}?
How do I know if I have {x}?
How can I tell if it is {x}?
What does {x} feel like?
What are the first signs of {n}?
What are the warning signs of {n}?
How {does} {x} show?
What symptoms {does} {x} cause?
Which symptoms does a person with {n} have?
list the symptoms of {n}
Do I have {x}? What are the signs?
What would I notice if I had {x}?
Tell me the symptoms of {x}.
common symptoms of {n}
how to tell if you have {x}
do i have {x}
---
What should I look out for if I think I have {x}?
How would someone notice {x}?
signs and symptoms of {n}
How do people with {n} usually feel?
{n}: how do I recognize it?
could it be {n}, what are the symptoms
""",
    "causes": """
What causes {x}?
What causes {n}?
{n} causes
{n} causes
causes of {n}
cause of {n}
Why do people get {x}?
How do you get {x}?
What is the cause of {n}?
reasons for {n}
What are the risk factors for {n}?
{n} risk factors
Who is at risk of {x}?
What brings on {x}?
Why do I have {x}?
Where does {n} come from?
Who gets {x}?
What leads to {n}?
What triggers {n}?
What can cause {x}?
Why {does} {x} happen?
Tell me what causes {n}.
why did i get {x}
---
What is behind {n}?
How come people develop {n}?
what makes {n} more likely
How does someone end up with {x}?
What are the reasons a person gets {x}?
where do you get {n} from
""",
    "treatment": """
How {is} {x} treated?
How {is} {n} treated?
{n} treatment
{n} treatment
treatment for {n}
How do you treat {x}?
how to treat {n}
What is the treatment for {n}?
What helps with {n}?
What can I do about {x}?
How do I get rid of {x}?
remedies for {n}
{n} remedy
cure for {n}
Is there a cure for {n}?
therapy for {n}
What medicine helps with {n}?
managing {n}
How can I manage {n}?
how to deal with {x}
What do doctors do for {x}?
What is the best treatment for {n}?
I have {x}, what should I do?
Tell me how {n} {is} treated.
what to do about {n}
how to cure {n}
---
What are the options for treating {n}?
what works against {n}
ways to ease {n}
What will the doctor do to treat {x}?
I was diagnosed with {n}, how can it be treated?
what do you take for {n}
""",
    "prevention": """
How can {x} be prevented?
How can {n} be prevented?
{n} prevention
{n} prevention
prevention of {n}
prevent {n}
how to prevent {n}
How do I prevent {x}?
How can I avoid {x}?
how to avoid {n}
avoiding {n}
What can I do to prevent {x}?
How can I lower my risk of {x}?
ways to prevent {n}
How do I reduce the risk of {n}?
How do I protect myself from {n}?
tips to prevent {n}
Can {x} be prevented?
How do I stop getting {x}?
How do I keep from getting {x}?
Tell me how to prevent {x}.
preventing {n}
---
What lowers the chance of {x}?
How do I stay safe from {n}?
Is there a way to stop {n} before it starts?
What should I do so that I do not get {x}?
how to keep {n} away
what protects against {n}
""",
    "doctor": """
When should I see a doctor about {x}?
When should I see a doctor about {n}?
when to see a doctor for {n}
{n} when to see a doctor
{n} when to see doctor
Should I go to the doctor for {x}?
Is {n} serious?
Is {n} dangerous?
When is {n} an emergency?
When should I worry about {x}?
when to worry about {n}
When should I get medical help for {x}?
When should I call the doctor about {n}?
Do I need a doctor for {x}?
Should I get {n} checked?
When should I go to the hospital with {n}?
How do I know when {n} is serious?
When should someone with {n} get help?
{n} doctor
When do I have to see a doctor with {n}?
when to go to the er for {n}
---
At what point does {x} need medical attention?
How long should I wait before seeing someone about {n}?
Is it time to see a doctor about my {n}?
{n}: when is it urgent?
When do I need professional help for {n}?
how bad must {n} be before i call a doctor
""",
    "steps": """
What is the first aid for {x}?
What is the first aid for {n}?
first aid for {n}
{n} first aid
first aid {n}
What do I do about {x}?
What should I do in case of {n}?
How do I help someone with {x}?
{n} what to do
{n} what should i do
what to do for {n}
someone has {x}, what do I do
What are the first steps for {n}?
emergency help for {n}
How do I deal with {x} at home?
immediate care for {n}
What should I do if someone has {x}?
steps for {n}
How do I give first aid for {n}?
help with {n}
Tell me what to do for {x}.
how to treat {n}
treatment for {n}
---
My friend has {x}, how can I help?
What should be done right away for {n}?
What do I do first for {n}?
give me first aid instructions for {n}
how do i look after {x}
""",
    "why": """
Why {is} {x} done?
Why do I need {x}?
Why would I need {x}?
What is the purpose of {x}?
{n} purpose
reasons for {x}
What {does} {x} check for?
What {does} {x} show?
Why did my doctor order {x}?
Why would I have {x}?
What {is} {x} for?
What {is} {x} used for?
Who needs {x}?
When is {x} needed?
why get {x}
What can {x} find?
What is the point of {x}?
Tell me why {x} {is} done.
What does {n} measure?
why {n}
what does {x} detect
---
What are doctors looking for with {x}?
What problems can {x} pick up?
Why would a doctor send me for {x}?
I was told to have {x}, what for?
What's the reason to have {x}?
""",
    "prepare": """
How do I prepare for {x}?
how to prepare for {x}
{n} preparation
{n} prep
preparing for {x}
What should I do before {x}?
Do I need to fast before {x}?
Can I eat before {x}?
How do I get ready for {x}?
getting ready for {x}
before {x} what do I do
What must I do before {x}?
How should I prepare for my {n}?
Is there anything to do before {x}?
what to do before {x}
Should I stop my medicines before {x}?
Tell me how to prepare for {x}.
what should i wear for {x}
how to get ready for {n}
can i drink water before {x}
---
I have {x} tomorrow, what should I do beforehand?
What do I need to know ahead of {x}?
How do I get myself ready for {x}?
rules before {x}
my {n} is next week, how should i prepare
""",
    "during": """
What happens during {x}?
What happens in {x}?
How {is} {x} done?
How {is} {x} performed?
{n} procedure
What is it like to have {x}?
Does {x} hurt?
Is {x} painful?
How long does {x} take?
What will they do during {x}?
What can I expect during {x}?
what do they do in {x}
How does {x} work?
{n} what happens
what to expect from {x}
walk me through {x}
Tell me what happens during {x}.
what happens at {x}
how do they do {x}
during {x}
---
What will I feel during {x}?
Explain the procedure of {x}.
What takes place when you have {x}?
Will it hurt to have {x}?
how does {x} go
""",
    "results": """
What do the results of {x} mean?
{n} results
{n} result
{n} results meaning
results of {x}
What do my {n} results mean?
How do I read {n} results?
how to read {x}
understanding {n} results
What is a normal {n} result?
What if my {n} is abnormal?
How do I interpret {x}?
meaning of {n} results
When do I get the results of {x}?
What is normal for {x}?
Explain the results of {x}.
What does an abnormal {n} mean?
my {n} came back high
Tell me what the results of {x} mean.
what is a normal {n}
---
I got my {n} back, what does it say?
How should I understand the findings of {x}?
What does the outcome of {x} tell me?
is my {n} normal
{n} report explained
""",
    "need": """
Why does the body need {n}?
What does {n} do?
what does {n} do for you
What is {n} good for?
benefits of {n}
{n} benefits
Why is {n} important?
Why do we need {n}?
Why do I need {n}?
function of {n}
What is the role of {n} in the body?
What does the body use {n} for?
health benefits of {n}
Is {n} good for you?
How does {n} help the body?
Why should I get enough {n}?
Tell me why the body needs {n}.
importance of {n}
why {n}
what does {n} help with
---
What job does {n} do in the body?
Why does {n} matter?
How is {n} useful to my health?
What do we need {n} for?
what are the advantages of {n}
""",
    "sources": """
Which foods contain {n}?
What foods have {n}?
{n} foods
{n} rich foods
{n} sources
foods high in {n}
foods with {n}
good sources of {n}
sources of {n}
Where can I get {n}?
What should I eat to get {n}?
How do I get more {n}?
What food is high in {n}?
best sources of {n}
List foods with {n}.
what to eat for {n}
How can I get enough {n}?
dietary sources of {n}
Tell me which foods contain {n}.
What has a lot of {n}?
---
Where is {n} found?
What can I eat for more {n}?
Which foods are full of {n}?
I want more {n} in my diet, what should I buy?
what meals give me {n}
""",
    "deficiency": """
What happens if you lack {n}?
{n} deficiency
low {n}
lack of {n}
not enough {n}
too little {n}
signs of low {n}
symptoms of {n} deficiency
{n} deficiency symptoms
What if I do not get enough {n}?
What happens without {n}?
Am I low in {n}?
What does a lack of {n} do?
effects of low {n}
Who is at risk of low {n}?
Is low {n} dangerous?
Tell me what happens if I lack {n}.
what happens if my {n} is low
what does low {n} cause
---
How do I know if I get too little {n}?
What goes wrong when {n} is missing?
shortage of {n}
What are the consequences of not getting {n}?
can a person run short of {n}
""",
    "excess": """
Can you have too much {n}?
too much {n}
Is too much {n} bad?
{n} toxicity
What happens if you have too much {n}?
side effects of too much {n}
Can {n} be harmful?
excess {n}
high {n}
Can I take too much {n}?
dangers of too much {n}
How much {n} is too much?
Is it possible to get too much {n}?
{n} excess
Is {n} safe in large amounts?
can i eat too much {n}
Tell me about too much {n}.
what does too much {n} do
risks of too much {n}
---
Is a lot of {n} harmful?
What if I take more {n} than I need?
risks of large amounts of {n}
Could extra {n} hurt me?
can {n} be dangerous
""",
    "uses": """
What {is} {n} used for?
uses of {n}
{n} uses
{n} used for
What {does} {n} treat?
Why do people take {n}?
What {is} {n} for?
When {is} {n} used?
Why would I be given {n}?
What conditions {is} {n} used for?
Who takes {n}?
What {is} {n} good for?
Why did my doctor prescribe {n}?
When do doctors prescribe {n}?
purpose of {n}
What {does} {n} help with?
reasons to take {n}
Tell me what {n} {is} used for.
why take {n}
when to take {n}
---
Which problems call for {n}?
What illnesses are helped by {n}?
For what reasons would someone be on {n}?
when would a doctor choose {n}
what {is} {n} meant to treat
""",
    "how": """
How {does} {n} work?
how {n} work
how {n} works
{n} mechanism
{n} how they work
What {does} {n} do in the body?
What {does} {n} do?
How {does} {n} help?
Explain how {n} work.
How {does} {n} act?
In what way {does} {n} help?
What happens in my body when I take {n}?
How {does} {n} affect the body?
mechanism of action of {n}
Tell me how {n} work.
the way {n} work
What effect {does} {n} have on the body?
---
What is the action of {n}?
How {does} {n} do the job?
By what means {does} {n} work?
what goes on inside when you take {n}
how exactly {does} {n} have an effect
""",
    "effects": """
What are the side effects of {n}?
side effects of {n}
{n} side effects
{n} side effects
Are there side effects of {n}?
What problems can {n} cause?
What are the risks of {n}?
Do {n} have side effects?
bad effects of {n}
{n} risks
Can {n} make me feel sick?
adverse effects of {n}
Are {n} safe?
unwanted effects of {n}
What reactions can {n} cause?
common side effects of {n}
Tell me the side effects of {n}.
is it normal to feel unwell on {n}
---
How might {n} make me feel?
What are the downsides of {n}?
What could go wrong with taking {n}?
possible reactions to {n}
what bad things can {n} do
""",
    "care": """
Who should be careful with {n}?
Who should not take {n}?
{n} warnings
{n} precautions
{n} interactions
Can everyone take {n}?
When should I not take {n}?
Is it safe to take {n} with other medicines?
Can I take {n} while pregnant?
Can I drink alcohol with {n}?
What should I watch out for with {n}?
{n} and alcohol
Who should avoid {n}?
Before taking {n}, what should I know?
cautions for {n}
Should I tell my doctor anything before taking {n}?
Tell me who should be careful with {n}.
who can't take {n}
---
Is there anyone who should stay away from {n}?
What should I tell my doctor before I start {n}?
safety advice for {n}
when {is} {n} unsafe
what do I need to be careful about with {n}
""",
    "dose": """
How much {n} should I take?
How many {n} should I take?
{n} dose
{n} dosage
What dose of {n} should I take?
How many milligrams of {n} do I need?
How often can I take {n}?
what is the right dose of {n}
How many {n} can I take a day?
how much {n} per day
how much {n} for a child
recommended dose of {n}
can i take two {n}
Tell me the dose of {n}.
---
What amount of {n} is right for me?
how many mg of {n}
Should I double my {n}?
{n} how much per day
""",
}
_TEMPLATES = {kind: block.strip() for kind, block in _TEMPLATES.items()}

_FRAMES = {
    "np": (  # a thing one can ask for
        "what is the *|what are the *?|*|the *|tell me the *|list the *|explain the *|give me the *|I need the *|what do you know about the *|"
        "I want to know the *|can you tell me the *?|describe the *|show me the *|any *?|summary of the *|help me understand the *|"
        "I am looking for the *|could you list the *?|I would like an overview of the *|are there any *?|please describe the *|"
        "what should I know about the *?|which are the *|*, please|more about the *|name some *"
    ),
    "do": (  # a thing one can do
        "how do I *?|how to *|how can I *?|ways to *|what can I do to *?|what should I do to *?|is there a way to *?|tips to *|help me *|"
        "I want to *|can you tell me how to *?|what is the best way to *?|is it possible to *?|how does one *?|how do you *|how do people *?|"
        "best way to *|can I *?|what do I have to do to *|I need to *|how could my mother *?|how would I *?|advice on how to *|options to *|"
        "what can be done to *?|trying to *|I would like to *, how?|what must I do to *?|what steps should I take to *?|steps to *"
    ),
    "sub": (  # something that does something
        "what *?|what *|which things *?|what usually *?|what can *?|do you know what *?|what would *?|tell me what *|what else *?|"
        "is there anything that *?|I wonder what *|explain what *|what exactly *?|what really *?|what kind of thing *?|list what *|things that *"
    ),
    "cl": (  # a whole indirect question
        "*|*?|tell me *|explain *|I want to know *|do you know *?|please explain *|I would like to understand *|help me understand *|can you say *?|"
        "I do not know *|I wonder *|could you explain *?|nobody told me *|please tell me *|I need to know *|describe *|I have to find out *"
    ),
    "when": (  # a step one may have to take
        "when should I *?|when to *|should I *?|do I need to *?|at what point should I *?|how soon should I *?|when do I have to *?|do I have to *?|"
        "is it time to *?|when is it time to *?|when must I *?|how long can I wait before I *?|when would you *?|is it necessary to *?|"
        "how do I know when to *?|should my mother *?|tell me when to *|when does somebody need to *?|what are the signs that I should *?|must I *|"
        "how long should I wait to *?|how bad does it have to be to *?|is now the moment to *?|when ought I to *?"
    ),
    "adj": (  # a judgement
        "is {x} *?|can {x} be *?|when is {x} *?|how do I know if {x} is *?|{n} *?|could my {n} be *?|when does {x} become *?|"
        "how do I know when {x} is *?|is my {n} *?|why is {x} *?|how can I tell whether {x} is *?|at what point is {x} *?|might {x} be *"
    ),
}
_PHRASES = {
    "what": """
np: meaning of {n} | definition of {n} | basics of {n} | facts about {n} | description of {n} | details of {n} | explanation of {n} | idea behind {n} | nature of {n} | introduction to {n} | key points about {n}
do: understand {n} | learn about {n} | know more about {n} | describe {n} | explain {n} | find out about {n} | read about {n} | make sense of {n} | define {n}
cl: what {x} {is} | what {n} means | what {n} really {is} | what you know about {n} | about {n} | what people mean by {n} | what {x} {is} in a few words | what {x} {is} exactly | what the word {n} means | what to know about {n} | what I should know about {n} | the term {n} | something about {n} | everything about {n}
""",
    "symptoms": """
np: symptoms of {x} | signs of {x} | warning signs of {n} | early signs of {n} | first symptoms of {n} | typical symptoms of {n} | common signs of {n} | main symptoms of {n} | complaints with {n} | telltale signs of {n} | symptoms people with {n} have | {n} symptoms | {n} signs | usual signs of {n} | indications of {x} | symptoms and signs of {n}
do: recognize {x} | recognise {n} | notice {x} | spot {x} | tell that I have {x} | know that it is {x} | identify {n} | detect {x} early | see that someone has {x} | find out if I have {x} | look out for {n} | tell if it could be {n} | check myself for {n}
cl: how {x} feels | what {x} feels like | how someone with {n} feels | what {n} looks like | how {n} shows | what to look out for with {n} | how I would notice {x} | how people feel with {n} | what one notices with {n} | if I have {x} | whether I have {x} | if this could be {x} | if it might be {n}
sub: happens when you have {x} | does a person with {n} feel | tells me that I have {x} | points to {x} | shows that it is {n} | do people with {n} feel | do I feel if I have {x} | should I look for if it might be {n} | should I watch for with {n}
""",
    "causes": """
np: causes of {x} | cause of {n} | reasons for {n} | reason for {x} | risk factors for {n} | triggers of {n} | origin of {n} | source of {n} | roots of {n} | common causes of {n} | main causes of {n} | background of {n} | {n} causes | {n} triggers | factors behind {n} | reasons people get {x}
do: get {x} | catch {n} | develop {x} | end up with {x} | come down with {n} | wind up having {x}
sub: causes {x} | leads to {x} | brings on {x} | triggers {n} | makes {n} happen | gives you {x} | makes {n} more likely | raises the risk of {n} | starts {n} | is responsible for {n} | is the reason for {x} | is to blame for {n} | lies behind {n} | is behind my {n} | sets off {n} | increases the chance of {x} | makes people get {x} | could be causing my {n} | results in {n}
cl: why people get {x} | why {n} happens | why I have {x} | where {n} comes from | how people get {x} | who gets {x} | who is at risk of {n} | how {x} comes about | how it comes that people have {n} | how {n} starts | how {n} develops | how come I have {x} | why someone develops {n} | why some people end up with {n} | who is likely to get {x}
""",
    "treatment": """
np: treatment for {x} | treatments for {n} | therapy for {n} | cure for {n} | remedy for {n} | medicine for {n} | medicines for {n} | options for treating {n} | help for {n} | care for {n} | treatment options for {n} | best treatment of {n} | home remedies for {n} | relief for {n} | ways of treating {n} | therapies for {n} | drugs for {n} | {n} treatment | {n} medicine
do: treat {x} | cure {n} | ease {n} | manage {n} | get rid of {x} | deal with {n} | relieve {n} | heal {n} | handle {n} | live with {n} | recover from {x} | get better from {n} | take care of {n} | fight {n} | soothe {n} | get over {x} | control {n} | make {n} better | make {n} go away | calm {n} | get help for my {n} | treat my {n} | feel better with {n}
sub: helps with {n} | helps against {n} | works for {n} | works against {n} | cures {n} | eases {n} | relieves {n} | treats {n} | makes {n} better | is good for {n} | can I take for {n} | do doctors give for {n} | will the doctor do for {n} | is done about {n} | can I do about {n} | do people take for {n} | is used against {n} | do you do if you have {x} | gets rid of {n}
cl: how {x} {is} treated | how {n} {is} managed | how doctors treat {n} | what to do about {n} | what to take for {n} | if {n} can be cured | whether {n} can be treated | how {n} {is} handled | how {n} {is} healed | how {n} can be treated | what to do against {n} | what to do if I have {x} | what the doctor will do about {n} | how to take care of {n} | how {n} gets better | how they treat {x}
""",
    "prevention": """
np: prevention of {n} | ways to prevent {n} | ways to avoid {x} | tips for preventing {n} | steps to prevent {n} | measures against {n} | protection against {n} | protection from {n} | ways of avoiding {n} | means to prevent {n} | {n} prevention | advice on preventing {n} | habits that prevent {n} | steps for avoiding {n}
do: prevent {x} | avoid {x} | stay safe from {n} | protect myself from {n} | protect my family from {n} | keep from getting {x} | lower the risk of {x} | lower my risk of {n} | reduce the chance of {x} | reduce my chances of {n} | keep {n} away | stop {n} from starting | stop {n} before it starts | not get {x} | make {n} less likely | cut my risk of {n} | guard against {n} | ward off {n} | stay free of {n} | keep {n} from coming back | lower the chance of {n} | stop myself from getting {x} | escape {n} | decrease the risk of {n}
sub: prevents {x} | lowers the risk of {n} | protects against {n} | protects from {n} | keeps {n} away | helps prevent {n} | reduces the chance of {x} | makes {n} less likely | lowers the chance of {n} | stops {n} before it starts | can I do so that I do not get {x} | should I do not to get {x} | reduces the risk of {x} | guards against {n} | should I do to avoid {n} | wards off {n} | do I do so I never get {x}
cl: how {x} can be prevented | how {n} {is} prevented | whether {n} can be prevented | if {n} can be avoided | how to avoid {x} | what to do so I do not get {x} | how not to get {x} | how people avoid {n} | how to keep {n} away | how to stay safe from {n} | if I can stop {n} before it begins | how to make {n} less likely
""",
    "doctor": """
when: see a doctor about {x} | see a doctor for {n} | go to the doctor with {n} | go to the hospital with {n} | get help for {n} | seek medical attention for {n} | call a doctor about {n} | have {x} checked | get {n} looked at | worry about {x} | be concerned about {n} | see someone about {n} | go to the emergency room for {n} | visit a clinic for {n} | make an appointment for {n} | ask a professional about {n} | call for help with {n} | get medical care for {n} | get urgent care for {n} | seek help for {n} | get professional help for {n} | see my doctor about my {n} | call an ambulance for {n} | see somebody about {n} | take {n} seriously | go to the er with {n}
adj: serious | dangerous | urgent | an emergency | life threatening | something to worry about | a reason to see a doctor | severe | bad enough to see a doctor | worrying | a case for the hospital | deadly | harmful | a reason for concern | serious enough to go to hospital
cl: when to see a doctor about {x} | when {n} {is} serious | when {n} {is} an emergency | when {n} needs a doctor | if {n} needs medical attention | how long to wait with {n} | if I should see a doctor about my {n} | when {n} becomes dangerous | whether {n} needs medical care | at what point to see someone about {n} | how urgent {n} {is} | how serious {n} {is} | how bad {n} must be before I see a doctor | when {n} {is} urgent
""",
    "steps": """
np: first aid for {x} | first aid steps for {n} | first steps for {n} | first aid instructions for {n} | right steps for {n} | immediate care for {n} | emergency care for {n} | treatment for {x} | help for {n} | first things to do for {n} | first aid advice for {n} | {n} first aid | instructions for {n}
do: help someone with {x} | give first aid for {n} | treat {x} | deal with {x} | handle {x} | care for {x} | look after {x} | help a friend with {n} | respond to {n} | help with {n} | act in case of {n} | take care of {x} | help a person who has {x}
sub: should I do for {x} | do I do in case of {n} | helps right away with {n} | should be done at once for {n} | do I do first for {n} | do you do for {x} | should I do first if there is {n} | must be done quickly for {n} | can I do right away for {n}
cl: what to do for {x} | what to do if someone has {x} | how to help with {n} | what to do first for {n} | what I should do about {x} | how to give first aid for {n} | how I can help someone with {x} | what to do right away for {n} | how to look after {x} | how {n} {is} treated
""",
    "why": """
np: purpose of {x} | reason for {x} | reasons for {x} | point of {x} | use of {x} | goal of {x} | need for {x} | reason to have {x} | benefits of having {x} | reasons to get {x} | {n} purpose
sub: does {x} show | does {x} check for | can {x} find | does {x} look for | {is} {x} for | does {x} detect | does {x} tell the doctor | do doctors look for with {x} | problems can {x} find | diseases can {x} pick up | {is} {x} good for | do they want to see with {x} | {is} the reason for {x}
cl: why {x} {is} done | why I need {x} | why doctors order {x} | why my doctor wants {x} | what {x} {is} for | what {x} looks for | what {x} shows | when {x} {is} needed | who needs {x} | why someone would have {x} | what a doctor can see with {x} | why I was sent for {x} | why they do {x} | what problems {x} finds | why they sent me for {x}
""",
    "prepare": """
np: preparation for {x} | best preparation for {x} | rules before {x} | things to do before {x} | steps before {x} | rules for eating before {x} | instructions before {x} | way to get ready for {x} | {n} preparation | advice before {x}
do: prepare for {x} | get ready for {x} | prepare myself for {x} | get myself ready for {x} | be ready for {x} | prepare for my {n} tomorrow | eat before {x} | drink before {x} | take my pills before {x} | prepare for {x} next week | fast before {x} | have coffee before {x} | plan ahead for {x}
sub: should I do before {x} | do I need to do before {x} | must I avoid before {x} | should I know ahead of {x} | should I do beforehand if I have {x} tomorrow | do I do the day before {x} | can I eat before {x} | should I tell them before {x} | should I bring to {x} | do I wear for {x} | do I need to know before {x}
cl: how to prepare for {x} | what to do before {x} | how to get ready for {x} | if I can eat before {x} | whether I must fast before {x} | what to know ahead of {x} | what to do beforehand for {x} | how I should prepare for my {n} | what to avoid before {x} | how people get ready for {x}
""",
    "during": """
np: procedure of {x} | steps of {x} | course of {x} | process of {x} | details of how {x} {is} done | {n} procedure | length of {x} | pain during {x} | things that happen during {x} | way {x} {is} done
sub: happens during {x} | happens in {x} | happens at {x} | will they do during {x} | will I feel during {x} | do they do in {x} | takes place during {x} | can I expect during {x} | should I expect at {x} | goes on during {x} | happens when you have {x} | will happen to me in {x} | takes place when someone has {x}
cl: how {x} {is} done | how {x} {is} performed | what happens during {x} | how long {x} takes | if {x} hurts | whether {x} {is} painful | what {x} {is} like | how {x} works | what it feels like to have {x} | how {x} goes | what to expect during {x} | how they do {x} | if it will hurt to have {x} | how the procedure of {x} works | what they do to you in {x}
adj: painful | uncomfortable | long | scary | done quickly | over fast
""",
    "results": """
np: results of {x} | meaning of {n} results | findings of {x} | result of {x} | normal values for {x} | outcome of {x} | numbers in {x} | meaning of the results of {x} | interpretation of {x} | normal result of {x} | report of {x} | {n} results | values in my {n} | {n} report
do: read {n} results | understand my {n} results | interpret {x} | make sense of {n} results | understand the findings of {x} | read my {n} report | understand the numbers in {x} | know if my {n} is normal
sub: do the results of {x} mean | does my {n} result say | do my {n} results tell me | does it mean if my {n} is high | does it mean if my {n} is not normal | do the numbers of {x} mean | do the findings of {x} tell | does {x} result say | does the outcome of {x} mean | {is} a good {n} result
cl: what the results of {x} mean | what my {n} results say | how to read {x} | how to understand {x} | if my {n} is normal | what a normal {n} result {is} | what my {n} means | what the findings of {x} say | what {n} numbers mean | how to read my {n} report | what the outcome of {x} tells
adj: normal | abnormal | high | low | bad | okay | fine
""",
    "need": """
np: benefits of {n} | role of {n} | function of {n} | job of {n} in the body | importance of {n} | uses of {n} in the body | advantages of {n} | health benefits of {n} | purpose of {n} in the body | value of {n} for my health | good things about {n} | reasons to get {n} | {n} benefits
sub: does {n} do | does {n} do in the body | does {n} do for my health | {is} {n} good for | does {n} help with | do we need {n} for | does the body use {n} for | makes {n} important | makes {n} useful | does the body do with {n} | {is} the job of {n} | does {n} do for us
cl: why the body needs {n} | why we need {n} | what {n} {is} good for | what {n} does in the body | why {n} {is} important | why {n} matters | how {n} helps | how {n} {is} useful | what we need {n} for | why I should get {n} | how {n} helps my health | what the body uses {n} for
adj: important | useful | good for me | necessary | healthy | essential | needed by the body
""",
    "sources": """
np: sources of {n} | food sources of {n} | best sources of {n} | foods with {n} | foods rich in {n} | foods high in {n} | foods full of {n} | foods that contain {n} | meals with {n} | dishes rich in {n} | {n} foods | dishes with {n} | things to eat for {n} | fruits and vegetables with {n} | groceries with {n} | natural sources of {n}
do: get {n} | get more {n} | get enough {n} from food | eat more {n} | find {n} in food | add {n} to my diet | raise my {n} with food | put more {n} in my meals | get {n} naturally | get my {n} from meals
sub: contains {n} | has {n} in it | foods have {n} | foods contain {n} | foods are high in {n} | should I eat for {n} | can I eat to get more {n} | has a lot of {n} | foods give me {n} | should I buy to get {n} | meals are rich in {n} | do I eat if I want more {n} | can I cook to get {n} | food is full of {n}
cl: which foods contain {n} | where {n} {is} found | where to find {n} | where I get {n} | what to eat for {n} | which foods have {n} | where {n} comes from | what has {n} in it | what to buy for more {n} | where we get {n} from | which meals have {n}
""",
    "deficiency": """
np: effects of too little {n} | signs of too little {n} | consequences of low {n} | dangers of low {n} | results of a lack of {n} | symptoms of low {n} | problems from too little {n} | risks of not getting enough {n} | signs of lacking {n} | effects of missing {n} | consequences of a lack of {n}
sub: happens if you lack {n} | happens if I do not get {n} | happens without {n} | happens when {n} is missing | does a lack of {n} do | goes wrong without {n} | if my {n} is too low | if I get too little {n} | happens if I run low on {n} | happens when I am short of {n} | does not getting enough {n} do | goes wrong when you get too little {n}
cl: what happens if you lack {n} | what a lack of {n} does | what too little {n} does | if I get too little {n} | whether I lack {n} | how I notice a lack of {n} | what happens without {n} | if I am short of {n} | who runs short of {n} | how to tell that I lack {n} | what low {n} does to you
do: know that I lack {n} | run low on {n} | tell that I get too little {n} | notice a shortage of {n} | become short of {n} | find out if I lack {n}
""",
    "excess": """
np: dangers of too much {n} | risks of too much {n} | effects of too much {n} | harm from too much {n} | problems with too much {n} | symptoms of too much {n} | side effects of a lot of {n} | dangers of large amounts of {n} | signs of too much {n} | limits for {n}
sub: happens if you have too much {n} | happens if I get too much {n} | does too much {n} do | happens if I take a lot of {n} | if I take more {n} than I need | does a lot of {n} do | happens with extra {n} | if I eat too much {n} | happens if my {n} is too high | does a large amount of {n} do
cl: if you can have too much {n} | whether too much {n} is bad | if a lot of {n} is harmful | if {n} can be dangerous | if extra {n} can hurt me | what too much {n} does | whether large amounts of {n} are bad | if {n} can harm me | what happens with too much {n} | if I can overdo {n}
do: have too much {n} | take too much {n} | eat too much {n} | get too much {n} | overdo {n} | hurt myself with too much {n} | take more {n} than needed
adj: harmful | dangerous | bad in large amounts | toxic | risky in high amounts | unsafe | too much | a danger to me
""",
    "uses": """
np: uses of {n} | use of {n} | purpose of {n} | reasons to take {n} | reasons for taking {n} | conditions treated with {n} | problems treated with {n} | illnesses that {n} help | reasons to prescribe {n} | reasons for {n} | {n} uses | diseases that call for {n}
sub: {is} {n} used for | {does} {n} treat | {is} {n} for | {does} {n} help with | {is} {n} good for | conditions need {n} | problems {is} {n} for | illnesses {is} {n} used for | diseases {is} {n} meant for | would I take {n} for | do doctors give {n} for | do people take {n} for | {is} {n} meant to treat
cl: what {n} {is} used for | why people take {n} | when {n} {is} used | why I was given {n} | what {n} treat | why doctors prescribe {n} | when doctors choose {n} | what {n} {is} good for | who needs {n} | why I am on {n} | why someone would take {n} | for what reasons people are on {n} | which problems call for {n} | what {n} {is} meant for
""",
    "how": """
np: action of {n} | mechanism of {n} | effect of {n} on the body | way {n} work | way in which {n} act | inner workings of {n} | working of {n} | {n} mechanism
sub: {does} {n} do | {does} {n} do in the body | {does} {n} do inside me | happens in the body when I take {n} | goes on in the body with {n} | makes {n} work | {does} {n} change in the body | {is} the action of {n} | happens inside after taking {n}
cl: how {n} work | how {n} act | how {n} help | what {n} do in the body | how {n} do their work | how {n} affect the body | by what means {n} help | how {n} have their effect | how it is that {n} work | what goes on in the body when I take {n} | in what way {n} work | how {n} act inside the body
""",
    "effects": """
np: side effects of {n} | risks of {n} | dangers of {n} | adverse effects of {n} | unwanted effects of {n} | bad effects of {n} | common side effects of {n} | downsides of {n} | problems with {n} | possible side effects of {n} | reactions to {n} | complaints from {n} | harms of {n} | disadvantages of {n} | {n} side effects | bad reactions to {n} | negative effects of {n}
sub: side effects do {n} have | problems can {n} cause | can go wrong with {n} | bad things do {n} cause | side effects can I get from {n} | reactions do {n} cause | trouble can {n} cause | harm can {n} do | can happen to me on {n} | complaints do {n} cause | could happen when I take {n}
cl: if {n} have side effects | whether {n} are safe | how {n} make you feel | what problems {n} cause | if {n} can make me sick | what can go wrong with {n} | if {n} are bad for you | what the risks of {n} are | how I may feel on {n} | what bad reactions {n} cause | whether {n} have downsides
do: get side effects from {n} | feel sick from {n} | feel unwell on {n} | have a reaction to {n} | get ill from {n}
adj: safe | harmful | risky | bad for me | making me feel ill | causing my problems | dangerous
""",
    "care": """
np: warnings for {n} | precautions with {n} | cautions for {n} | safety rules for {n} | interactions of {n} | people who should not take {n} | safety advice on {n} | things to be careful about with {n} | people who must avoid {n} | reasons not to take {n} | {n} warnings | things to tell my doctor before {n} | people who should stay away from {n}
sub: should I be careful about with {n} | should I watch out for with {n} | should I know before taking {n} | should I tell my doctor before {n} | must I avoid with {n} | should not be mixed with {n} | people should not take {n} | makes {n} unsafe | do I tell the doctor before I start {n} | do I have to watch with {n}
cl: who should be careful with {n} | who should not take {n} | who must avoid {n} | if everyone can take {n} | whether anyone should stay away from {n} | when not to take {n} | if I can drink with {n} | if I can take {n} with other medicines | when {n} are unsafe | what to tell my doctor before {n} | who has to stay away from {n} | if I can take {n} when pregnant | when to be careful with {n}
do: take {n} safely | use {n} with other medicines | drink alcohol with {n} | take {n} while pregnant | combine {n} with my pills | stay safe with {n} | take {n} if I have kidney trouble
""",
}

_FOLLOW_UPS = {
    "what": "what is it? | What is that? | and what is it exactly? | can you explain what it is | what does it mean? | "
    "so what is it --- what is that exactly? | could you explain it?",
    "symptoms": "and the symptoms? | What are the symptoms? | symptoms? | what are its signs | How would I know I have it? | "
    "how does it feel? | what are the signs of it --- and what are the signs? | what symptoms does it have?",
    "causes": "what causes it? | and the causes? | why do people get it? | How do you get it? | what is the cause | "
    "where does it come from? | causes? --- and what causes that? | why does it happen?",
    "treatment": "how is it treated? | And the treatment? | how do you treat it? | what helps against it? | treatment? | "
    "what can I do about it? | is there a cure? --- and how is that treated? | what can be done about it?",
    "prevention": "how can it be prevented? | how do I prevent it? | and prevention? | How can I avoid it? | prevention? | "
    "can I prevent that? --- and how can I prevent that? | is there a way to avoid it?",
    "doctor": "when should I see a doctor? | is it serious? | should I see a doctor about it? | When is it an emergency? | "
    "when should I worry? | and when to see a doctor --- do I need to see a doctor for it? | is it dangerous?",
    "steps": "what is the first aid? | what should I do? | first aid? | and what do I do first? | How do I help? | "
    "what do I do then? --- and the first aid for it? | what should I do about it?",
    "why": "why is it done? | what is it for? | Why do I need it? | what does it show? | and the purpose? | "
    "why would I have it? --- and why is that done? | what is the reason for it?",
    "prepare": "how do I prepare for it? | how do I prepare? | What should I do before it? | can I eat before? | and the preparation? | "
    "preparation? --- do I have to prepare for it? | how do I get ready for that?",
    "during": "what happens during it? | does it hurt? | How is it done? | how long does it take? | and what happens then? | "
    "what do they do? --- is it painful? | and how is that done?",
    "results": "what do the results mean? | and the results? | How do I read the results? | what is normal? | results? | "
    "what if it is abnormal? --- how do I understand the results? | and what do the results say?",
    "need": "why does the body need it? | why is it important? | What does it do? | why do I need it? | and the benefits? | "
    "what is it good for? --- and why do we need it? | what does the body use it for?",
    "sources": "which foods contain it? | what foods have it? | Where can I get it? | sources? | and which foods? | "
    "what should I eat? --- and what foods contain it? | how do I get more of it?",
    "deficiency": "what if I lack it? | what happens if you lack it? | And if I do not get enough? | what if it is low? | "
    "and a lack of it? | what are the signs of too little? --- what happens without it? | and if I have too little of it?",
    "excess": "can you have too much? | can I have too much of it? | Is too much bad? | and too much of it? | "
    "what if I take too much? | can it be harmful? --- and can there be too much of it? | is a lot of it bad?",
    "uses": "what are they used for? | what is it used for? | Why do people take them? | and the uses? | what do they treat? | "
    "when are they used? --- and what are they used for? | why would I be given them?",
    "how": "how do they work? | how does it work? | What do they do in the body? | and how do they work | how do they help? | "
    "what do they do? --- and how does that work? | how do they act?",
    "effects": "what are the side effects? | side effects? | And the side effects? | do they have side effects? | are they safe? | "
    "what problems can they cause? --- and what side effects do they have? | are there any side effects?",
    "care": "who should be careful? | who should not take them? | And who should be careful with them? | can everyone take them? | "
    "who should avoid them? | what should I watch out for? --- who must be careful with them? | can anybody take them?",
}
SWITCHES = ["and {x}?", "what about {x}?", "And for {n}?", "what about {n}", "and {n}"]
"""Follow-ups that change the topic and keep the kind: "What about asthma?" """
