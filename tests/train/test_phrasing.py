"""How people ask: the two sides of the wordings never meet, and carelessness stays readable."""

from random import Random

import pytest

from train.phrasing import (
    CANONICAL,
    Name,
    ask,
    canonical,
    careless,
    follow_ups,
    invented_name,
    misspell,
    parse_canonical,
    qualifiers,
    templates,
)
from train.sample import plain

KINDS = list(CANONICAL)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_enough_wordings_and_none_stands_on_both_sides(kind: str) -> None:
    trained, held = templates(kind), templates(kind, held_out=True)
    assert len(set(trained)) >= 14
    assert len(set(held)) == 2
    assert not {plain(text) for text in trained} & {plain(text) for text in held}
    assert not set(follow_ups(kind)) & set(follow_ups(kind, held_out=True))
    assert all("{n}" in text or "{x}" in text for text in trained + held)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [Name("stroke", "a "), Name("statins", plural=True), Name("vitamin A"), Name("flu", "the ")]
)
def test_a_canonical_question_is_read_back(kind: str, name: Name) -> None:
    read_kind, read_name = parse_canonical(canonical(kind, name))
    assert (read_kind, read_name.text) == (kind, name.text)


def test_what_is_no_canonical_question_is_said_so() -> None:
    with pytest.raises(ValueError, match="not a canonical question"):
        parse_canonical("Where do babies come from?")


def test_held_out_qualifiers_are_not_trained_on() -> None:
    assert len(qualifiers(held_out=True)) >= 3
    assert not set(qualifiers()) & set(qualifiers(held_out=True))


def test_verbs_agree_with_the_name() -> None:
    assert canonical("uses", Name("statins", plural=True)) == "What are statins used for?"
    assert canonical("what", Name("stroke", "a ")) == "What is a stroke?"


def test_the_same_generator_gives_the_same_words() -> None:
    def words(seed: int) -> list[str]:
        rng = Random(seed)
        return [careless(ask(kind, Name("asthma"), rng), rng) for kind in KINDS]

    assert words(3) == words(3) != words(4)


def test_a_misspelling_changes_one_word_by_a_slip() -> None:
    rng = Random(0)
    for _ in range(500):
        before = "what are the symptoms of diabetes"
        after = misspell(before, rng)
        changed = [(a, b) for a, b in zip(before.split(), after.split(), strict=True) if a != b]
        assert len(changed) <= 1
        assert all(abs(len(a) - len(b)) <= 1 and a[0] == b[0] for a, b in changed)
    assert misspell("to be or", rng) == "to be or"


def test_invented_names_vary() -> None:
    rng = Random(0)
    assert len({invented_name(rng) for _ in range(1000)}) > 800
