"""deploy/compose.yaml: the app and the model server agree, and the app's settings are settings."""

import re
from urllib.parse import urlsplit

import pytest
import yaml

from space.settings import Settings
from tests.deploy.dockerfile import ROOT, last, stages


@pytest.fixture(scope="module")
def services():
    """The services as Compose sees them where no variable is set."""
    text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "deploy/compose.yaml").read_text())
    return yaml.safe_load(text)["services"]


def test_the_apps_variables_are_settings(services):
    environment = services["app"]["environment"]
    chosen = Settings.from_env(environment)
    assert chosen.problems == ()
    known = {option.metadata.get("variable") for option in Settings.__dataclass_fields__.values()}
    assert set(environment) <= known
    assert chosen.remote


def test_the_app_asks_the_server_that_is_there(services):
    app, server = Settings.from_env(services["app"]["environment"]), services["model"]
    model, *options = server["command"]
    endpoint = urlsplit(app.endpoint_url)
    assert services[endpoint.hostname] is server
    assert f":{endpoint.port}/health" in server["healthcheck"]["test"][-1]
    assert services["app"]["depends_on"] == {"model": {"condition": "service_healthy"}}
    assert model == app.model_id
    assert int(options[options.index("--max-num-seqs") + 1]) == app.max_running


def test_the_app_is_the_image_without_torch_on_a_read_only_disk(services):
    app = services["app"]
    build = app["build"]
    assert (ROOT / "deploy" / build["context"] / build["dockerfile"]).is_file()
    assert build["target"] == "cpu"
    assert build["target"] in stages()
    assert app["ports"] == [f"{last('cpu', 'EXPOSE')}:{last('cpu', 'EXPOSE')}"]
    assert app["read_only"] is True
    assert app["tmpfs"] == ["/tmp"]


def test_the_servers_image_is_pinned(services):
    assert re.fullmatch(r"vllm/vllm-openai:v\d+\.\d+\.\d+", services["model"]["image"])
