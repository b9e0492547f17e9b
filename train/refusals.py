"""What the Hub refuses those who write to it, as one sentence: what, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from train.errors import TrainError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@contextmanager
def refusals(name: str, machine: str) -> Iterator[None]:
    """Turns what the Hub's client raises into a `TrainError`.

    `name` is the repository that is written to, `machine` the option that asks for one, as it was given.
    """
    from httpx2 import HTTPError
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise TrainError(_SIGN_IN.format(constants.ENDPOINT)) from error
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise TrainError(_SIGN_IN.format(constants.ENDPOINT)) from error
        raise TrainError(_sentence(error, name, machine)) from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise TrainError(f"The Hub cannot be reached ({error}); check that, and run the command again.") from error
    except HFValidationError as error:
        raise TrainError(f"{name!r} is not a name for a repository ({error}); choose another.") from error
    except RuntimeError as error:  # what the client makes of a large file that did not get through
        if not isinstance(error.__cause__, HTTPError):
            raise
        raise TrainError(f"{error} ({error.__cause__}) Run the command again to finish.") from error


_SIGN_IN = (
    "HF_TOKEN is missing or wrong; make a token with write access at {}/settings/tokens, and set HF_TOKEN to it or run "
    "hf auth login."
)


def _sentence(error: HfHubHTTPError, name: str, machine: str) -> str:
    status, said = error.response.status_code, f" ({error.server_message})" if error.server_message else ""
    path = error.response.request.url.path
    if status == 402 or (status in (400, 403) and path.endswith("/hardware")):
        return f"The Hub refuses {machine}{said}; it may take PRO or prepaid credits, or be misspelt: choose another."
    if status == 403 and path.startswith("/api/jobs"):
        return f"HF_TOKEN may not start jobs{said}; use one with that permission."
    if status == 403:
        return f"HF_TOKEN may not write to {name}{said}; use one with write access of an account that may."
    if status == 409:
        return f"The name {name} is taken{said}; choose another."
    if status == 412:
        return f"Somebody else has changed {name} meanwhile; run the command again."
    return f"The Hub answered {status} for {name}{said}; wait a moment and run the command again."
