import pytest

from space.engine import load
from space.errors import ModelError
from space.settings import Settings


def test_nothing_set_means_the_embedded_model_on_this_machine_only():
    settings = Settings.from_env({})
    assert settings.embedded
    assert (settings.server_name, settings.server_port) == ("127.0.0.1", 7860)
    assert settings == Settings()


def test_every_variable_is_read():
    settings = Settings.from_env(
        {
            "MODEL_ID": "owner/name",
            "MODEL_REVISION": "v1",
            "HF_TOKEN": "secret",
            "ENGINE": "llamacpp",
            "GGUF_FILE": "model-q8_0.gguf",
            "ENDPOINT_URL": "http://127.0.0.1:8000/v1",
            "ENDPOINT_CONTEXT": "8192",
            "LOAD_IN_4BIT": "true",
            "GENERATION_TIMEOUT": "30.5",
            "MAX_RUNNING": "4",
            "MAX_WAITING": "0",
            "RATE_LIMIT": "20/minute",
            "MCP": "1",
            "METRICS": "1",
            "LOG_LEVEL": "warning",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": "8000",
            "SPACES_ZERO_GPU": "true",
        }
    )
    assert settings == Settings(
        "owner/name",
        "v1",
        "secret",
        "llamacpp",
        "model-q8_0.gguf",
        "http://127.0.0.1:8000/v1",
        8192,
        True,
        30.5,
        4,
        0,
        "20/minute",
        True,
        True,
        "warning",
        "0.0.0.0",
        8000,
        True,
        problems=(),
    )


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LOAD_IN_4BIT", "maybe", "1 or 0"),
        ("ENGINE", "warp", "one of auto, transformers, llamacpp, remote"),
        ("GENERATION_TIMEOUT", "soon", "a number from 1 to 3600"),
        ("GENERATION_TIMEOUT", "nan", "a number from 1 to 3600"),
        ("MAX_RUNNING", "2.5", "a whole number from 1 to 64"),
        ("GRADIO_SERVER_PORT", "99999", "a whole number from 0 to 65535"),
    ],
)
def test_a_bad_value_is_named_with_what_is_expected(variable, value, expected):
    settings = Settings.from_env({variable: value, "GRADIO_SERVER_NAME": "0.0.0.0"})
    assert settings.problems == (
        f"The setting {variable} is '{value}' but must be {expected}; correct it and start again.",
    )
    assert settings.server_name == "0.0.0.0", "the page must stay reachable to show the problem"
    with pytest.raises(ModelError, match=variable):
        load(settings)


def test_the_token_is_never_shown():
    assert "hunter2" not in repr(Settings(hf_token="hunter2"))


@pytest.mark.parametrize(
    ("settings", "remote"),
    [
        (Settings(), False),
        (Settings(endpoint_url="http://127.0.0.1:8000"), True),
        (Settings(endpoint_url="http://127.0.0.1:8000", engine="transformers"), False),
        (Settings(engine="remote"), True),
    ],
)
def test_whether_what_is_typed_leaves_this_machine(settings, remote):
    assert settings.remote is remote
