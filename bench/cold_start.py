"""From `python app.py` to the first answer, on this machine.

    python -m bench.cold_start [--runs 3]

Starts the app as a person would, in a process of its own with nothing configured, and asks the first question as soon as
`/health` is 200. Prints the seconds to the page, to a model that is ready, and to the first answer, and writes them to
bench/RESULTS.md. The peer of the same run is the time that `import torch, transformers, gradio` takes alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

from bench.results import write

ROOT = Path(__file__).parent.parent
PORT = 7899


def get(path: str, body: bytes | None = None) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", body, timeout=30) as response:
            return response.read()
    except (urllib.error.URLError, ConnectionError):
        return None


def until(path: str) -> None:
    while get(path) is None:
        time.sleep(0.02)


def run() -> dict[str, float]:
    environment = os.environ | {"GRADIO_SERVER_PORT": str(PORT), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        until("/")
        page = time.perf_counter() - start
        until("/health")
        ready = time.perf_counter() - start
        answer = get("/answer", b'{"text": "What are the symptoms of diabetes?"}')
        assert b"thirst" in (answer or b"").lower(), answer
        return {"page": page, "ready": ready, "first answer": time.perf_counter() - start}
    finally:
        app.terminate()
        app.wait()


def imports() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, transformers, gradio"], cwd=ROOT, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    measured = [run() | {"imports alone": imports()} for _ in range(runs)]
    middle = {name: median(m[name] for m in measured) for name in measured[0]}
    rows = "\n".join(
        f"| {name} | {value:.2f} | {value / middle['imports alone']:.2f} |" for name, value in middle.items()
    )
    table = f"| from `python app.py` to | seconds | ratio to the imports |\n|---|---|---|\n{rows}"
    write("cold_start", f"Median of {runs} runs, embedded model.\n\n{table}", ["torch", "transformers", "gradio"])
    print(table)


if __name__ == "__main__":
    main()
