"""Build the CPU image of deploy/Dockerfile without Docker, run it locked down, and chat with it.

    apt-get install buildah debootstrap podman runc
    python -m bench.image [--work DIR]

As root on Debian; DIR keeps the base and the layers for the next time. No registry of images is asked: in the place of
python:3.12-slim stands a Debian bookworm that debootstrap makes, with Debian's Python 3.11. buildah builds with chroot isolation;
podman runs the image as its own user, on a read-only disk, without capabilities, behind a published port. Pip's settings and the
certificates are this machine's. Prints sizes and seconds, and writes them to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.results import write

ROOT = Path(__file__).parent.parent
IMAGE, BASE = "localhost/medical-qa:cpu", "localhost/python-stand-in:bookworm"
PORT = 7898
LOCKED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
# podman's own limits are higher than root's may be, and its health checks are timers of systemd: asked for by hand below.
HERE = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--no-healthcheck"]
MB = 1e6


def run(*words: str | Path) -> str:
    print("$", *words, flush=True)
    return subprocess.run([str(word) for word in words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def storage(work: Path) -> list[str | Path]:
    return ["--root", work / "storage", "--runroot", work / "run", "--storage-driver", "overlay"]


def podman(work: Path, *words: str | Path) -> str:
    return run("podman", *storage(work), "--runtime", "/usr/sbin/runc", "--cgroup-manager", "cgroupfs", *words).strip()


def make_base(work: Path) -> None:
    """The base image, from Debian's packages."""
    if BASE in podman(work, "images", "--format", "{{.Repository}}:{{.Tag}}"):
        return
    folder, tar = work / "base", work / "base.tar"
    if not (folder / "usr/bin/python3").exists():
        run("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm", folder)
    run("tar", "--directory", folder, "--exclude=./var/cache/apt/archives/*.deb", "--create", "--file", tar, ".")
    podman(work, "import", tar, BASE)
    tar.unlink()


def build(work: Path) -> float:
    """Seconds that the build took, packages fetched."""
    mine = [Path("/etc/ssl/certs"), Path("/etc/pip.conf")]
    mounts = [word for path in mine if path.exists() for word in ("--volume", f"{path}:{path}:ro")]
    start = time.perf_counter()
    run(
        *("buildah", *storage(work), "bud", "--isolation", "chroot", "--format", "docker"),
        *("--build-arg", f"PYTHON={BASE}", *mounts, "--target", "cpu", "-f", "deploy/Dockerfile", "-t", IMAGE, "."),
    )
    return time.perf_counter() - start


def size(work: Path, image: str) -> float:
    """Megabytes of an image, unpacked."""
    return int(podman(work, "image", "inspect", "--format", "{{.Size}}", image)) / MB


def get(path: str, body: bytes | None = None) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", body, timeout=30) as response:
            return bytes(response.read())
    except (urllib.error.URLError, ConnectionError):
        return None


def chat(work: Path) -> dict[str, str]:
    """What was measured of the running image."""
    _, *check = json.loads(podman(work, "image", "inspect", "--format", "{{json .HealthCheck.Test}}", IMAGE))
    start = time.perf_counter()
    name = podman(work, "run", "--detach", "--publish", f"127.0.0.1:{PORT}:7860", *LOCKED, *HERE, IMAGE)
    try:
        while get("/health") is None:
            assert time.perf_counter() - start < 120, podman(work, "logs", name)
            time.sleep(0.02)
        ready = time.perf_counter() - start
        answer = json.loads(get("/answer", b'{"text": "What are the symptoms of diabetes?"}') or b"{}")
        first = time.perf_counter() - start
        assert "thirst" in answer["answer"], answer
        podman(work, "exec", name, *check)
        pid = podman(work, "inspect", "--format", "{{.State.Pid}}", name)
        about = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert about["Uid"].split() == ["1000"] * 4, about["Uid"]
        assert int(about["CapEff"], 16) == 0, about["CapEff"]
        writing = podman(work, "exec", name, "sh", "-c", "touch /app/new || touch /cache/new && echo only there")
        assert writing == "only there", writing
        start = time.perf_counter()
        podman(work, "stop", "--time", "10", name)
        stopped = time.perf_counter() - start
        code = podman(work, "inspect", "--format", "{{.State.ExitCode}}", name)
    finally:
        podman(work, "rm", "--force", "--volumes", name)
    return {
        "from `podman run` to a model that is ready, s": f"{ready:.1f}",
        "to the first answer, s": f"{first:.1f}",
        "memory then, MB": f"{int(about['VmRSS'].split()[0]) * 1024 / MB:.0f}",
        "from `podman stop` to the end, s": f"{stopped:.1f}",
        "its exit code": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "image")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    make_base(work)
    built = build(work)
    whole, base = size(work, IMAGE), size(work, BASE)
    figures = {
        "build, packages fetched, s": f"{built:.0f}",
        "image, MB": f"{whole:.0f}",
        "of it the base, MB": f"{base:.0f}",
        **chat(work),
    }
    table = "| what | figure |\n|---|---|\n" + "\n".join(f"| {name} | {figure} |" for name, figure in figures.items())
    text = f"The CPU image on a base made by debootstrap, run read-only, as user 1000, without capabilities.\n\n{table}"
    write("image", text, ["gradio", "xllamacpp"])
    print(table)


if __name__ == "__main__":
    main()
