"""A Hub with a base model on it, and a machine that knows no other."""

import pytest

from tests.hub.machine import Machine
from tests.hub.server import OWNER, hub

TERMS = "Gemma Terms of Use\n\nLast modified: some day\n\n" + "3.2 Use restrictions.\n" * 100


@pytest.fixture(scope="module")
def the_hub():
    with hub() as running:
        running.repositories.add(
            "google/gemma",
            {"config.json": b"{}", "README.md": b"---\nlicense: gemma\n---\n", "LICENSE": TERMS.encode()},
        )
        yield running


@pytest.fixture(scope="module")
def machine(the_hub, tmp_path_factory):
    working = Machine(the_hub.endpoint, tmp_path_factory.mktemp("home"))
    yield working
    working.stop()


@pytest.fixture(autouse=True)
def well(the_hub):
    """Each test begins with a Hub that works and a log that is empty."""
    the_hub.well()
    the_hub.requests.clear()


@pytest.fixture
def here(the_hub, monkeypatch):
    """Leads the Hub's client of this very process to the local Hub, as the account that owns it."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", the_hub.endpoint)
    template = the_hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", OWNER)
