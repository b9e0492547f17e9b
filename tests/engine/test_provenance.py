import json

import pytest

from space.engine.provenance import Provenance, read
from space.settings import Settings

CARD = """---
license: gemma
model_name: Health answers
base_model: google/gemma-3-1b-it
datasets:
- lavita/medical-qa-datasets
- own/sample
model-index:
- name: Health answers
  results:
  - task: {type: question-answering}
    dataset: {type: own/sample, name: held-out questions}
    metrics:
    - {type: accuracy, name: right answers, value: 0.97}
    - {type: perplexity, value: 8.5}
---
# Health answers
"""
HUB = Settings(model_id="owner/model", model_revision="v1")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    return tmp_path


def test_the_card_says_where_a_model_comes_from(folder):
    assert read(folder, HUB, "transformers, cpu, bfloat16") == Provenance(
        model="owner/model",
        revision="v1",
        base="google/gemma-3-1b-it",
        data=("lavita/medical-qa-datasets", "own/sample"),
        licence="gemma",
        scores=(("right answers (held-out questions)", "0.97"), ("perplexity (held-out questions)", "8.5")),
        runs_on="transformers, cpu, bfloat16",
    )


def test_several_bases_and_a_single_data_set_are_read_too(tmp_path):
    (tmp_path / "README.md").write_text("---\nbase_model: [a/b, c/d]\ndatasets: e/f\n---\n")
    provenance = read(tmp_path, HUB, "")
    assert (provenance.base, provenance.data) == ("a/b, c/d", ("e/f",))


@pytest.mark.parametrize(
    "card",
    [
        None,
        b"",
        b"# A model\nwithout front matter\n",
        b"---\nlicense:\nbase_model:\ndatasets:\n---\n",
        b"---\nbase_model: [never closed\n---\n",
        b"---\n- a\n- list\n---\n",
        b"---\nlicense: mit\n---\n\xff\xfe not UTF-8",
        b"---\nmodel-index: 5\n---\n",
    ],
    ids=["no card", "empty", "no front matter", "no values", "broken YAML", "a list", "broken text", "broken scores"],
)
def test_a_card_that_says_nothing_or_is_broken_leaves_it_empty(tmp_path, card):
    if card is not None:
        (tmp_path / "README.md").write_bytes(card)
    assert read(tmp_path, HUB, "here") == Provenance(model="owner/model", revision="v1", runs_on="here")


def test_broken_scores_do_not_hide_the_rest(folder):
    (folder / "README.md").write_text(CARD.replace("metrics:", "measured:"))
    provenance = read(folder, HUB, "")
    assert (provenance.scores, provenance.licence) == ((), "gemma")


def test_in_the_hubs_cache_the_revision_is_the_commit(tmp_path):
    folder = tmp_path / "models--owner--model" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    assert read(folder, HUB, "").revision == "0123abcd"


def test_the_embedded_model_has_the_name_of_its_card_and_knows_its_topics(folder):
    (folder / "metrics.json").write_text(json.dumps({"topics": 130}))
    provenance = read(folder, Settings(), "")
    assert (provenance.model, provenance.embedded, provenance.topics) == ("Health answers", True, 130)


def test_another_models_metrics_are_not_taken_for_topics(folder):
    (folder / "metrics.json").write_text("[of another shape")
    provenance = read(folder, HUB, "")
    assert (provenance.embedded, provenance.topics) == (False, 0)


def test_an_embedded_model_without_a_card_still_has_a_name(tmp_path):
    assert read(tmp_path, Settings(), "").model == "embedded demo model"
