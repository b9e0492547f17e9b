"""`python -m train publish` by the unmodified client against a Hub of our own: what travels, what happens when it is
interrupted anywhere, and what a person reads when it cannot be."""

import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from tests.hub.conftest import TERMS
from tests.hub.machine import ROOT
from tests.hub.runs import GEMMA, WEIGHTS, finished
from tests.hub.server import OWNER, READER, STRANGER, Refusal
from train.hub import STAGING
from train.licence import GEMMA as NOTICE

MODEL = {
    *("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "model-q4_0.gguf", "model-q8_0.gguf", "model-bf16.gguf"),
    *("README.md", "metrics.json", "loss.png", "LICENSE", "NOTICE"),
}
OF_HUB = ".gitattributes"
"""What the Hub itself puts into a new repository."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("publish") / "run")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another run, of a model in two files."""
    return finished(tmp_path_factory.mktemp("publish") / "other", seed=2, shards=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run without GGUF files, for what is done often."""
    return finished(tmp_path_factory.mktemp("publish") / "small", seed=4, kinds=())


SMALL = {name for name in MODEL if not name.endswith(".gguf")}


@pytest.fixture
def publish(machine, request):
    """Publishes a run to a repository that only this test has."""
    name = f"owner/{abs(hash(request.node.name))}"

    def publishing(run, *more, to=name, **options):
        return machine.run("publish", "--run", run.folder, "--repo", to, *more, **options)

    publishing.name = name
    return publishing


def written(hub):
    """The requests that change something."""
    return [each for each in hub.requests if each.method not in ("GET", "HEAD") and "validate-yaml" not in each.path]


def published(done):
    assert done.status == 0, done
    return done


def refused(done):
    """The sentence that a person reads, on one line."""
    assert done.status == 2, done
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1, done.err
    return done.err.strip()


# ---- what travels ---------------------------------------------------------------------------------------------------


def test_the_named_files_travel_and_nothing_else(the_hub, publish, run):
    for stray in (
        "merged/pytorch_model.bin",
        "merged/training_args.bin",
        "data/optimizer.pt",
        "merged/.env",
        "note.txt",
    ):
        (run.folder / stray).write_bytes(b"not meant to travel")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    done = published(publish(run))
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before
    repository = the_hub.repositories.get(publish.name)
    files = repository.files()
    assert set(files) == MODEL | {OF_HUB}
    assert files["model.safetensors"] == (run.merged / "model.safetensors").read_bytes()
    assert files["README.md"] == (run.folder / "README.md").read_bytes()
    assert repository.private
    assert list(repository.tags.values()) == [repository.head]
    tag = next(iter(repository.tags))
    assert tag.startswith("tiny-gemma-")
    assert f"{the_hub.endpoint}/{publish.name} now holds this run: 14 files, tag {tag}" in done.out
    assert set(repository.branches) == {"main"}
    assert len(repository.history()) == 2


def test_the_readmes_command_publishes(the_hub, machine, publish, run):
    line = re.search(r"^    HF_TOKEN=\S+ python -m train (publish .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line
    words = line[1].replace("OWNER/NAME", publish.name).split()
    published(machine.run(*words, "--run", run.folder))
    assert set(the_hub.repositories.get(publish.name).files()) == MODEL | {OF_HUB}


def test_gemmas_terms_are_kept(the_hub, publish, run):
    published(publish(run))
    files = the_hub.repositories.get(publish.name).files()
    assert files["LICENSE"].decode() == TERMS
    notice = " ".join(files["NOTICE"].decode().split())
    assert notice.startswith(NOTICE)
    assert "weights they hold were changed by fine-tuning. model.safetensors, model-q4_0.gguf" in notice
    assert "section 3.2" in notice
    assert "prohibited_use_policy" in notice
    card = ModelCard(files["README.md"].decode()).data
    assert (card.license, card.base_model, card.datasets) == ("gemma", "google/gemma", ["lavita/medical-qa-datasets"])
    assert card.eval_results


def test_unchanged_it_does_nothing_and_says_so(the_hub, publish, run):
    published(publish(run))
    the_hub.requests.clear()
    assert "is up to date" in published(publish(run)).out
    assert written(the_hub) == []


def test_a_new_run_replaces_the_old_one_whole_and_leaves_what_others_put_there(the_hub, publish, run, other):
    published(publish(run))
    repository = the_hub.repositories.get(publish.name)
    repository.commit(repository.at("main").tree | {"discussion.md": repository.at("main").tree["NOTICE"]}, "by hand")
    published(publish(other))
    assert {"discussion.md", "model-00001-of-00002.safetensors"} <= set(repository.files())
    assert "model.safetensors" not in repository.files()
    assert len(repository.history()) == 4
    old, new = repository.tags.values()
    assert "model.safetensors" in repository.files(old)
    assert new == repository.head
    published(publish(run))
    assert len(repository.tags) == 2


def test_the_adapter_alone(the_hub, publish, run):
    published(publish(run, "--adapter"))
    files = the_hub.repositories.get(publish.name).files()
    assert set(files) == {
        *("adapter_model.safetensors", "adapter_config.json", "README.md", "metrics.json", "loss.png"),
        *("LICENSE", "NOTICE", OF_HUB),
    }
    assert files["NOTICE"].decode().startswith(NOTICE)
    text = files["README.md"].decode()
    assert ModelCard(text).data.library_name == "peft"
    assert ModelCard(text).data.base_model == "google/gemma"
    assert f'PeftModel.from_pretrained(base, "{publish.name}")' in text
    assert "holds an adapter; give the model a repository of its own" in refused(publish(run))
    whole = f"{publish.name}-whole"
    published(publish(run, to=whole))
    assert "holds a whole model; give the adapter a repository of its own" in refused(
        publish(run, "--adapter", to=whole)
    )


def test_it_becomes_public_last_and_only_when_asked(the_hub, publish, run, other):
    published(publish(run, "--public"))
    last = written(the_hub)[-1]
    assert last.line == f"PUT /api/models/{publish.name}/settings"
    assert not the_hub.repositories.get(publish.name).private
    assert f"{publish.name} is public; add --public to publish there" in refused(publish(other))
    published(publish(other, "--public"))
    assert "model-00001-of-00002.safetensors" in the_hub.repositories.get(publish.name).files()


# ---- refused before anything is sent ---------------------------------------------------------------------------------


def _edited(run):
    readme = run.folder / "README.md"
    readme.write_text(readme.read_text().replace("## Limits", "## No limits"))


def _trained_again(run):
    (run.adapter / "adapter_model.safetensors").write_bytes(b"other weights")


def _merged_again(run):
    (run.merged / "made_from").write_text("something else")


def _scored_otherwise(run):
    run.record(evaluation=run.recorded("evaluation") | {"made_from": "an older model"})


def _without_scores(run):
    found = run.recorded()
    run.metrics.write_text(json.dumps({name: part for name, part in found.items() if name != "evaluation"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run.folder / "README.md").unlink(), "README.md is missing; make it with: python -m train card"),
        (_edited, "README.md is not of the weights and records there; make it again with: python -m train card"),
        (lambda run: run.metrics.unlink(), "metrics.json is missing; make it with: python -m train evaluate"),
        (_without_scores, "evaluation of metrics.json is missing; make it with: python -m train evaluate"),
        (_scored_otherwise, "the evaluation of metrics.json is not of the weights .* python -m train evaluate"),
        (_trained_again, "the merge of metrics.json is not of the weights .* python -m train merge"),
        (_merged_again, "not of the weights and records there; make it again with: python -m train"),
        (lambda run: (run.folder / "model-q8_0.gguf").unlink(), "model-q8_0.gguf is missing; .* python -m train gguf"),
        (lambda run: shutil.rmtree(run.merged), "merged/made_from is missing; make it with: python -m train merge"),
        (lambda run: (run.folder / "recipe.yaml").unlink(), "There is no run in .*; make one with python -m train all"),
    ],
)
def test_an_unfinished_or_outdated_run_is_refused(the_hub, publish, tmp_path, run, damage, said):
    shutil.copytree(run.folder, tmp_path / "run")
    mine = type(run)(run.recipe, tmp_path / "run")
    damage(mine)
    sentence = refused(publish(mine))
    assert re.search(said, sentence), sentence
    assert the_hub.requests == []


def test_without_the_terms_it_is_refused(the_hub, publish, run, tmp_path):
    bare = the_hub.repositories.add("google/bare", {"config.json": b"{}"})
    mine = finished(tmp_path / "run", type(GEMMA)(name="bare", base=bare.name, benchmarks=()))
    assert "google/bare carries no copy of its licence" in refused(publish(mine))
    (tmp_path / "page.txt").write_text("404: this page does not exist")
    assert "page.txt is not a copy of the Gemma Terms of Use" in refused(
        publish(mine, "--terms", tmp_path / "page.txt")
    )
    assert "cannot be read as a text file" in refused(publish(mine, "--terms", tmp_path / "nothing.txt"))
    assert written(the_hub) == []
    (tmp_path / "terms.txt").write_text(TERMS)
    published(publish(mine, "--terms", tmp_path / "terms.txt"))
    assert the_hub.repositories.get(publish.name).files()["LICENSE"].decode() == TERMS


def test_another_licence_asks_for_its_own_copy(the_hub, publish, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "LICENSE.txt").write_text("Apache License, Version 2.0")
    mine = finished(tmp_path / "run", type(GEMMA)(name="apache", base=str(base), benchmarks=()), licence="apache-2.0")
    published(publish(mine))
    files = the_hub.repositories.get(publish.name).files()
    assert files["LICENSE"] == b"Apache License, Version 2.0"
    assert b"Gemma" not in files["NOTICE"]
    assert not any(str(tmp_path).encode() in body for body in files.values())
    assert "is a folder of this machine; train it on a base of the Hub" in refused(publish(mine, "--adapter"))


def test_without_a_token_nothing_is_tried(the_hub, publish, run):
    assert refused(publish(run, token="")).startswith("HF_TOKEN is not set; publishing needs a token with write access")
    assert the_hub.requests == []


# ---- when the Hub or the connection fails ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "refusal", "said"),
    [
        ("GET /api/models/owner", Refusal(401, message="Invalid credentials in Authorization header"), "refused HF_TOKEN (status 401) for owner/"),
        ("POST .*/preupload/", Refusal(403, message="Forbidden"), "HF_TOKEN does not have this right on owner/"),
        ("google/gemma", Refusal(403, "GatedRepo"), "google/gemma is gated: accept its licence at "),
        ("google/gemma", Refusal(404, "RepoNotFound"), "There is no model google/gemma on the Hub, or HF_TOKEN may not"),
        ("GET .*google/gemma/tree", Refusal(404, "RevisionNotFound"), "google/gemma lacks a revision or a file that is needed"),
        ("POST .*/preupload/", Refusal(404, "RepoNotFound"), "There is no model owner/"),
        ("POST .*/commit/main", Refusal(409), "at the same time (status 409); run the command again"),
        ("POST .*/commit/main", Refusal(412), "at the same time (status 412); run the command again"),
        ("POST .*/commit/", Refusal(429, Retry_After="70"), "The Hub answered 429 for owner/"),
        ("POST /api/repos/create", Refusal(500), "The Hub answered 500 for owner/"),
        ("POST .*/batch", Refusal(503), "The Hub answered 503 for owner/"),
        ("PUT /storage", Refusal(500), "The Hub answered 500 for owner/"),
        ("PUT /storage", "cut", "The connection to the Hub broke for owner/"),
        ("POST .*/commit/", "cut", "The connection to the Hub broke for owner/"),
        ("GET .*/tree/", "half", "The connection to the Hub broke for "),
    ],
)  # fmt: skip
def test_a_failure_is_said_in_a_sentence_and_the_command_run_again_completes(
    the_hub, publish, run, pattern, refusal, said
):
    the_hub.fault(pattern, refusal)
    sentence = refused(publish(run))
    assert said in sentence
    assert OWNER not in sentence
    the_hub.well()
    published(publish(run))
    repository = the_hub.repositories.get(publish.name)
    assert set(repository.files()) == MODEL | {OF_HUB}
    assert len(repository.history()) == 2
    assert len(repository.tags) == 1


@pytest.mark.parametrize(("token", "said"), [
    ("hf_mistyped", "The Hub refused HF_TOKEN (status 401)"),
    (READER, "HF_TOKEN does not have this right on owner/"),
    (STRANGER, "HF_TOKEN does not have this right on owner/"),
])  # fmt: skip
def test_a_token_that_may_not_write(the_hub, publish, run, token, said):
    sentence = refused(publish(run, token=token))
    assert said in sentence
    assert token not in sentence
    assert ("model", publish.name) not in the_hub.repositories.known


def test_a_name_that_is_none(publish, run):
    assert "'owner/two words' is not a valid repository name" in refused(publish(run, to="owner/two words"))


def test_a_hub_that_has_trouble_for_a_while_is_waited_for(the_hub, publish, run):
    the_hub.fault("POST /api/repos/create", Refusal(500), times=3)
    the_hub.fault("POST .*/commit/main", Refusal(429, Retry_After="70"), times=1)
    done = published(publish(run))
    assert "The Hub answered 500 for owner/" in done.out
    assert "; trying again in 70 s." in done.out
    assert {1, 2, 4, 70} <= set(done.slept)


def test_a_connection_that_breaks_in_the_middle_of_the_third_file(the_hub, publish, run):
    the_hub.fault("PUT /storage", "cut", skip=2)
    assert "The connection to the Hub broke" in refused(publish(run))
    stored = the_hub.repositories.get(publish.name).stored
    assert len(stored) == 2
    assert all(len(body) == WEIGHTS or body.startswith(b"\x89PNG") for body in stored.values())
    the_hub.well()
    the_hub.requests.clear()
    published(publish(run))
    sent = [each for each in the_hub.requests if each.method == "PUT" and each.path.startswith("/storage")]
    assert len(sent) == 3  # of five large files


def test_somebody_else_publishes_meanwhile(the_hub, publish, run, other):
    published(publish(other))
    repository = the_hub.repositories.get(publish.name)

    def meanwhile(reply):
        if len(repository.history(STAGING)) == 3:
            repository.commit(repository.at("main").tree, "by somebody else")
        return reply

    the_hub.fault(f"POST .*/commit/{STAGING}", meanwhile, times=1)
    assert "Somebody else changed owner/" in refused(publish(run))
    assert "model-00001-of-00002.safetensors" in repository.files()
    published(publish(run))
    assert "model.safetensors" in repository.files()


def test_what_the_hub_stored_otherwise_is_not_published(the_hub, publish, run):
    def altered(reply):
        digest = json.loads(reply.body)[-1]["oid"]
        return type(reply)(reply.status, reply.body.replace(digest.encode(), b"0" * 40), reply.headers)

    the_hub.fault(f"GET .*{publish.name}/tree/", altered, skip=1)
    assert "after the upload owner/" in refused(publish(run)).lower()
    assert set(the_hub.repositories.get(publish.name).files()) == {OF_HUB}


@pytest.mark.parametrize("effect", ["corrupt", "full"])
def test_terms_that_do_not_arrive_whole(the_hub, publish, run, effect):
    if effect == "corrupt":
        the_hub.fault("GET /google/gemma/resolve", "corrupt")
    sentence = refused(publish(run, largest=1000 if effect == "full" else 0))
    said = {"corrupt": "LICENSE of google/gemma arrived damaged", "full": "could not be read or stored on this machine"}
    assert said[effect] in sentence
    the_hub.well()
    published(publish(run))
    assert the_hub.repositories.get(publish.name).files()["LICENSE"].decode() == TERMS


def test_a_download_that_breaks_is_taken_up_again(the_hub, publish, run):
    the_hub.fault("GET /google/gemma/resolve", "half", times=1)
    published(publish(run))
    assert sum(each.line == "GET /google/gemma/resolve/main/LICENSE" for each in the_hub.requests) == 2
    assert the_hub.repositories.get(publish.name).files()["LICENSE"].decode() == TERMS


@pytest.mark.timeout(240)
@pytest.mark.parametrize("effect", ["cut", "lose"])
def test_interrupted_at_any_request_main_is_old_or_new_and_the_same_command_finishes(
    the_hub, publish, small, other, effect
):
    """Cut: from the k-th request on nothing arrives. Lose: all arrives, and no answer comes back."""
    published(publish(other, to="owner/other"))
    template = the_hub.repositories.get("owner/other")
    old, new = template.files(), None
    for k in range(1000):
        name = f"{publish.name}-{k}"
        repository = the_hub.repositories.add(name, old, private=True)
        repository.tags["former"] = repository.head
        the_hub.requests.clear()
        the_hub.fault(name, effect, skip=k)
        done = publish(small, to=name)
        the_hub.well()
        if new is None:  # with the first request gone nothing can have happened
            assert repository.files() == old
        else:
            assert repository.files() in (old, new)
        if done.status == 0:
            break
        assert done.err.startswith("The connection to the Hub broke"), done
        published(publish(small, to=name))
        new = repository.files()
        assert set(new) == SMALL | {OF_HUB}
        assert len(repository.history()) == 2
        assert len(repository.tags) == 2
        assert set(repository.branches) == {"main"}
    assert k > 15


def test_one_answer_lost_anywhere_is_made_good_by_the_command_itself(the_hub, publish, small):
    for k in range(1000):
        name = f"{publish.name}-{k}"
        the_hub.fault(name, "lose", skip=k, times=1)
        published(publish(small, to=name))
        repository = the_hub.repositories.get(name)
        assert set(repository.files()) == SMALL | {OF_HUB}
        assert len(repository.history()) == 2
        assert len(repository.tags) == 1
        assert set(repository.branches) == {"main"}
        if the_hub.faults[0].times:
            break
        the_hub.well()
    assert k > 15


# ---- secrets --------------------------------------------------------------------------------------------------------


def test_a_token_is_found_nowhere_but_in_the_header_that_carries_it(the_hub, publish, tmp_path):
    mine = finished(tmp_path / "run", seed=3)
    for place in ("training_args.bin", ".netrc", ".git/config", "merged/.cache/token", "data/training_args.bin"):
        (mine.folder / place).parent.mkdir(exist_ok=True)
        (mine.folder / place).write_text(OWNER)
    published(publish(mine))
    published(publish(mine, "--adapter", to=f"{publish.name}-adapter"))
    canary = OWNER.encode()
    assert any(OWNER in each.headers.get("authorization", "") for each in the_hub.requests)
    for each in the_hub.requests:
        others = {name: text for name, text in each.headers.items() if name != "authorization"}
        assert OWNER not in f"{each.path} {each.query} {others}", each
        assert canary not in each.body, each
        assert "authorization" not in each.headers or not each.headers["host"].startswith("localhost"), each
    for repository in the_hub.repositories.known.values():
        for commit in repository.commits.values():
            assert not any(canary in blob.body for blob in commit.tree.values())
        assert not any(canary in body for body in repository.stored.values())
