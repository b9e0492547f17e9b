"""From MODEL_ID to a folder on this machine: a local one as it is, a Hub repository by download."""

import os
from pathlib import Path

from space.errors import ModelError
from space.settings import DEMO_MODEL, Settings

# What a model consists of. No pickles and no code: neither is ever fetched.
_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "README.md"]


def locate(settings: Settings) -> Path:
    """The folder that holds the model's files. Raises `ModelError` where there is none to be had."""
    if settings.embedded:
        return DEMO_MODEL
    folder = os.path.expanduser(settings.model_id)  # os.path: pathlib raises for an unknown ~user and for long names
    if os.path.isdir(folder):
        return Path(folder)
    if settings.model_id.startswith((".", "/", "~")) or settings.model_id.count("/") != 1:
        raise ModelError(
            f"MODEL_ID is {settings.model_id!r}, which is neither a folder here nor a Hub repository "
            "of the form owner/name; correct it and start again."
        )
    return _download(settings)


def _download(settings: Settings) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, revision = settings.model_id, settings.model_revision or "main"
    page = f"{constants.ENDPOINT}/{repository}"
    try:
        try:
            folder = snapshot_download(
                repository, revision=revision, token=settings.hf_token or None, allow_patterns=_FILES, max_workers=4
            )
        except LocalEntryNotFoundError as error:
            # Raised for any answer but the files where the cache cannot help out. What the Hub answered says more.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise error.__cause__ from None
            raise
    except GatedRepoError as error:
        raise ModelError(
            f"The model {repository} is gated: accept its licence at {page} and set HF_TOKEN to a token of "
            "the account that accepted it, then start again."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"The model {repository} has no revision {revision!r}; set MODEL_REVISION to a branch, tag or commit "
            f"listed at {page}/commits."
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"MODEL_ID is {repository!r}, which is not a valid repository name; write owner/name."
        ) from error
    except IncompleteSnapshotError as error:
        raise ModelError(
            f"The model {repository} is only half downloaded and the Hub cannot be reached to finish it; "
            "connect this machine and start again."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(
            f"The Hub cannot be reached to fetch {repository}; check this machine's connection and "
            f"{constants.ENDPOINT}, or set MODEL_ID to a local folder."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        # Without a token the Hub says 401 to what is missing as to what is private.
        if isinstance(error, RepositoryNotFoundError) or (status == 401 and not settings.hf_token):
            advice = (
                "or HF_TOKEN belongs to an account that may not read it"
                if settings.hf_token
                else "or it is private and HF_TOKEN is not set"
            )
            raise ModelError(
                f"There is no model {repository} on the Hub, {advice}; check MODEL_ID and HF_TOKEN."
            ) from error
        if status in (401, 403):
            raise ModelError(
                f"The Hub refused HF_TOKEN (status {status}) for {repository}; make a new token with read access at "
                f"{constants.ENDPOINT}/settings/tokens and set it as HF_TOKEN."
            ) from error
        raise ModelError(f"The Hub answered {status} for {repository}; wait a moment and start again.") from error
    except HTTPError as error:
        raise ModelError(
            f"The connection to the Hub broke while fetching {repository} ({error}); start again to continue the download."
        ) from error
    except OSError as error:
        raise ModelError(
            f"The model {repository} could not be stored ({os.strerror(error.errno) if error.errno else error}); "
            "make room or set HF_HOME to a folder with enough space."
        ) from error
    return Path(folder)
