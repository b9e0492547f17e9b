import pytest


@pytest.fixture
def online(monkeypatch):
    """The tests' own switch keeps them from the Hub; these speak to this machine only."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
