"""From MODEL_ID to files on this machine: local ones as they are, a Hub repository's by download."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from space.engine.digest import Digest
from space.engine.gguf import OVERHEAD
from space.engine.machine import free_memory
from space.errors import ModelError
from space.settings import DEMO_MODEL, Settings

# What a model consists of. No pickles and no code: neither is ever fetched.
_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "README.md"]


_BESIDE = ["README.md", "generation_config.json"]
"""What is fetched with a GGUF file, which holds all else itself."""


def locate(settings: Settings) -> Path:
    """The folder that holds the model's files. Raises `ModelError` where there is none to be had."""
    return _local(settings) or _download(settings, _FILES)


def locate_gguf(settings: Settings) -> Path | None:
    """The GGUF file to load, of those the model has; None where it has none.

    `GGUF_FILE`, or the one with the fewest bits that are at least four and fits memory. Of a Hub repository only that file
    is fetched. Raises `ModelError`.
    """
    folder = _local(settings)
    if folder and folder.is_file():
        return folder
    if folder:
        chosen = _choose({file.name: file.stat().st_size for file in sorted(folder.glob("*.gguf"))}, settings)
        return folder / chosen if chosen else None
    chosen = _choose(_listed(settings), settings)
    return _download(settings, [chosen, *_BESIDE]) / chosen if chosen else None


def _local(settings: Settings) -> Path | None:
    """The folder, or the GGUF file, that MODEL_ID names on this machine; None where it is a Hub repository."""
    if settings.embedded:
        return DEMO_MODEL
    folder = os.path.expanduser(settings.model_id)  # os.path: pathlib raises for an unknown ~user and for long names
    if os.path.isdir(folder) or (folder.endswith(".gguf") and os.path.isfile(folder)):
        return Path(folder)
    if settings.model_id.startswith((".", "/", "~")) or settings.model_id.count("/") != 1:
        raise ModelError(
            f"MODEL_ID is {settings.model_id!r}, which is neither a folder here nor a Hub repository "
            "of the form owner/name; correct it and start again."
        )
    return None


def _choose(sizes: Mapping[str, int], settings: Settings) -> str:
    """One of these GGUF files, given with their bytes; empty where there is none. Raises `ModelError`."""
    if settings.gguf_file:
        if settings.gguf_file not in sizes:
            raise ModelError(
                f"GGUF_FILE is {settings.gguf_file!r}, which {settings.model_id or 'the embedded model'} does not have; "
                f"it has {', '.join(sizes) or 'no GGUF file'}."
            )
        return settings.gguf_file
    # Not the parts of split files, and not what only sees pictures.
    whole = {name: size for name, size in sizes.items() if not re.search(r"-\d+-of-\d+|mmproj", name)}
    free = free_memory()
    fits = [name for name, size in whole.items() if size + OVERHEAD < free]
    if whole and not fits:
        raise ModelError(
            f"There is not enough memory on this machine for {settings.model_id}: its smallest GGUF file needs "
            f"{(min(whole.values()) + OVERHEAD) / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; choose a smaller model."
        )
    # Few bits are fast on a CPU, below four the answers suffer; of several with as many, the larger keeps more.
    return min(fits, key=lambda name: (_bits(name) < 4, abs(_bits(name) - 4), -whole[name]), default="")


def _bits(name: str) -> int:
    """Bits a weight of a file named like model-Q4_K_M.gguf; 32 where the name does not say."""
    found = re.findall(r"(?:^|[-._])(?:I?Q|BF|F)(\d+)", PurePosixPath(name).stem.upper())
    return int(found[-1]) if found else 32


def _listed(settings: Settings) -> dict[str, int]:
    """The GGUF files of a Hub repository with their bytes; those in the cache where the Hub cannot be reached."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with _sentences(settings):
        try:
            # Asked once; listing the tree would be tried for 20 seconds where there is no Hub.
            info = HfApi(token=settings.hf_token or None).model_info(
                settings.model_id, revision=settings.model_revision or "main", files_metadata=True, timeout=10
            )
            return {file.rfilename: file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".gguf")}
        except HfHubHTTPError:
            raise
        except (HTTPError, OfflineModeIsEnabled):
            return _cached(settings)


def _cached(settings: Settings) -> dict[str, int]:
    """The GGUF files of a repository in the Hub's cache, which holds those that were chosen before."""
    from huggingface_hub import scan_cache_dir

    wanted = settings.model_revision or "main"
    return {
        file.file_name: file.size_on_disk
        for repository in scan_cache_dir().repos
        for revision in repository.revisions
        for file in revision.files
        if repository.repo_id == settings.model_id and wanted in {*revision.refs, revision.commit_hash}
        if file.file_name.endswith(".gguf")
    }


def _download(settings: Settings, files: list[str]) -> Path:
    """The folder of the Hub's cache with these files (names or patterns) of the repository. Raises `ModelError`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    began = time.time()
    with _sentences(settings):
        try:
            folder = Path(
                snapshot_download(
                    settings.model_id,
                    revision=settings.model_revision or "main",
                    token=settings.hf_token or None,
                    allow_patterns=files,
                    max_workers=4,
                )
            )
        except LocalEntryNotFoundError as error:
            # Raised for any answer but the files where the cache cannot help out. What the Hub answered says more.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise error.__cause__ from None
            raise
    _prove(folder, began, settings.model_id)
    return folder


def _prove(folder: Path, began: float, repository: str) -> None:
    """Holds each file that was fetched since `began` against the hash that the Hub's cache calls it by, as the client compares
    sizes only. What is damaged is removed. Raises `ModelError`."""
    damaged = []
    for file in folder.rglob("*"):
        kept = file.resolve()
        # A second, for a file system's clock may lag; and where links are not supported a file has its own name here.
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", kept.name) or kept.stat().st_mtime < began - 1:
            continue
        digest = Digest.of(kept)
        if kept.name not in (digest.sha256, digest.git):
            kept.unlink()
            file.unlink()
            damaged.append(file.name)
    if damaged:
        raise ModelError(
            f"{', '.join(sorted(damaged))} of the model {repository} arrived damaged; start again to fetch it again."
        )


@contextmanager
def _sentences(settings: Settings) -> Iterator[None]:
    """Whatever the Hub's client raises, as a `ModelError`."""
    from httpx2 import HTTPError
    from huggingface_hub import constants
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
        yield
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
