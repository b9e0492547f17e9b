"""What the local Hub is worth: the libraries find on it what they find on the real one."""

import json
import subprocess
import sys

from safetensors.numpy import save

from tests.hub.machine import ROOT, environment
from tests.hub.server import OWNER, READER, STRANGER

_CLIENTS = """
import io, json, sys
from datasets import load_dataset
from huggingface_hub import CommitOperationDelete, HfApi, get_safetensors_metadata
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

owner, reader, stranger = sys.argv[1:]
found = {}
rows = load_dataset("someone/rows", split="train", token=reader)
found["rows"] = rows.to_list()
found["tensors"] = list(get_safetensors_metadata("someone/weights").files_metadata["model.safetensors"].tensors)

def refused(kind, action):
    try:
        action()
    except kind:
        return True
    return False

other = HfApi(token=stranger)
found["private"] = refused(RepositoryNotFoundError, lambda: other.repo_info("someone/rows", repo_type="dataset"))
found["gated"] = refused(GatedRepoError, lambda: other.hf_hub_download("someone/gated", "config.json"))
found["listed"] = other.list_repo_files("someone/gated")

api = HfApi(token=owner)
found["me"] = api.whoami()["name"]
for kind, more in (("model", {}), ("dataset", {}), ("space", {"space_sdk": "gradio"})):
    name = f"owner/{kind}"
    api.create_repo(name, repo_type=kind, private=True, **more)
    content = io.BytesIO(b"large " * 10)
    api.upload_file(path_or_fileobj=content, path_in_repo="deep/data.bin", repo_id=name, repo_type=kind)
    api.create_branch(name, branch="try/it", repo_type=kind)
    api.create_commit(
        name, [CommitOperationDelete("deep/", is_folder=True)], commit_message="less", revision="try/it", repo_type=kind
    )
    api.create_tag(name, tag="v1", repo_type=kind)
    refs = api.list_repo_refs(name, repo_type=kind)
    found[kind] = {
        "main": sorted(api.list_repo_files(name, repo_type=kind)),
        "try": api.list_repo_files(name, repo_type=kind, revision="try/it"),
        "tag": refs.tags[0].target_commit == api.repo_info(name, repo_type=kind).sha,
        "folder": [entry.path for entry in api.list_repo_tree(name, repo_type=kind)],
        "content": open(api.hf_hub_download(name, "deep/data.bin", repo_type=kind, revision="v1")).read()[:6],
    }
    api.delete_branch(name, branch="try/it", repo_type=kind)
    found[kind]["gone"] = refused(RevisionNotFoundError, lambda: api.repo_info(name, revision="try/it", repo_type=kind))
api.create_commit("owner/model", [CommitOperationDelete("deep/data.bin")], commit_message="Less", create_pr=True)
[opened] = api.get_repo_discussions("owner/model")
before = api.list_repo_files("owner/model"), api.list_repo_files("owner/model", revision="refs/pr/1")
api.merge_pull_request("owner/model", opened.num)
found["pull"] = {
    "title": opened.title,
    "ref": api.list_repo_refs("owner/model", include_pull_requests=True).pull_requests[0].ref,
    "before": [sorted(files) for files in before],
    "after": api.list_repo_files("owner/model"),
    "status": api.get_discussion_details("owner/model", 1).status,
}
print(json.dumps(found))
"""


def test_the_libraries_find_what_they_find_on_the_real_hub(the_hub, tmp_path):
    import numpy

    rows = [{"question": "Why?", "answer": "Because."}]
    the_hub.repositories.add(
        "someone/rows", {"train.jsonl": json.dumps(rows[0]).encode() + b"\n"}, kind="dataset", private=True
    )
    the_hub.repositories.add("someone/weights", {"model.safetensors": save({"layer": numpy.zeros((300, 300))})})
    the_hub.repositories.add("someone/gated", gated=True)
    done = subprocess.run(
        [sys.executable, "-c", _CLIENTS, OWNER, READER, STRANGER],
        cwd=ROOT,
        env=environment(the_hub.endpoint, tmp_path, HF_UPDATE_DOWNLOAD_COUNTS="0"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kind = {
        "main": [".gitattributes", "deep/data.bin"],
        "try": [".gitattributes"],
        "tag": True,
        "folder": ["deep", ".gitattributes"],
        "content": "large ",
        "gone": True,
    }
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "rows": rows,
        "tensors": ["layer"],
        "private": True,
        "gated": True,
        "listed": ["config.json"],
        "me": "owner",
        "model": kind,
        "dataset": kind,
        "space": kind,
        "pull": {
            "title": "Less",
            "ref": "refs/pr/1",
            "before": [[".gitattributes", "deep/data.bin"], [".gitattributes"]],
            "after": [".gitattributes"],
            "status": "merged",
        },
    }
    assert any("range" in request.headers for request in the_hub.requests)
