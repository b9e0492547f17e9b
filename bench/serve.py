"""Serving Gemma 3 1B on this machine: every engine and precision, bare and through the whole app, beside their peers.

    python -m bench.serve [--rows float32 bfloat16 bf16 q8_0 q4_0] [--small]

The model is the full shape with random weights, made in a temporary folder from ../shared/data's config and tokenizer, so
answers are noise and end at a fixed length. Peers of the same run: transformers' `generate` in float32, which is how the
original serves, and llama.cpp's own loop (xllamacpp without any engine of ours, timed by itself). Each measurement is a
process of its own with a limit of seconds. Prints tables and writes them to bench/RESULTS.md; `--small` makes a model of a
few layers instead, to see in a minute or two that the script runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.results import write
from space.prompt import Message, conversation

ROOT = Path(__file__).parent.parent
GEMMA = ROOT.parent / "shared" / "data" / "gemma3_tokenizer"
PORT = 7898
LIMIT = 300
"""Seconds a measurement may take before it is ended and left out."""
SMALL = {
    "num_hidden_layers": 6,
    "hidden_size": 64,
    "intermediate_size": 128,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
}
ROWS = {"float32": 16, "bfloat16": 24, "bf16": 48, "q8_0": 64, "q4_0": 96}
"""Tokens of an answer by row: some seconds of each engine's time."""
LONG = "I would like to understand how sleep, food and exercise work together in a healthy body. " * 54
TURN = "Please say more about how sleep, food and exercise work together in a healthy body. " * 5
QUESTIONS = [
    "What are the symptoms of diabetes?",
    "How can high blood pressure be prevented?",
    "Which foods contain vitamin D?",
    "How much sleep does an adult need?",
]
TURNS = 20

Ask = Callable[[str, int], "Timed"]
"""One conversation: a question and the answer's tokens; remembers what was said."""


@dataclass(frozen=True)
class Timed:
    """An answer and its moments on one clock, in seconds."""

    start: float
    first: float
    last: float
    tokens: int
    text: str

    @property
    def wait(self) -> float:
        return self.first - self.start

    @property
    def rate(self) -> float:
        """Tokens a second from the first token to the last."""
        return (self.tokens - 1) / (self.last - self.first)


def measure(start: Callable[[], Ask], tokens: int, users: tuple[int, ...] = (1, 2, 4)) -> dict[str, Any]:
    """Seconds to the first token, cold and in later turns, and tokens a second of some users together."""
    talk = start()
    found: dict[str, Any] = {"cold": talk(LONG, 16).wait, "second": talk("And what matters most of these?", 16).wait}
    if len(users) > 1:
        start()(QUESTIONS[-1], 16)
        found["third"] = talk("And after that?", 16).wait
    found["rate1"] = median(start()(QUESTIONS[0], tokens).rate for _ in range(3 if len(users) > 1 else 1))
    for count in users[1:]:
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda question: start()(question, tokens), QUESTIONS[:count]))
        found[f"rate{count}"] = sum(answer.rate for answer in answers)
        found["stream"] = max(answer.first for answer in answers) < min(answer.last for answer in answers)
    return found


def remembering(answer: Callable[[list[Message], int], Timed]) -> Callable[[], Ask]:
    """Conversations of an engine that is told the whole history each time."""

    def start() -> Ask:
        history: list[Message] = []

        def ask(question: str, tokens: int) -> Timed:
            timed = answer(conversation(history, question), tokens)
            history.extend([{"role": "user", "content": question}, {"role": "assistant", "content": timed.text}])
            return timed

        return ask

    return start


# ---- what is measured: each runs in a process of its own ----------------------------------------------------------


def make(folder: Path, small: bool) -> dict[str, Any]:
    """The model's folder: bfloat16 safetensors, and what is published beside them."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    values = json.loads((GEMMA / "config.json").read_text())
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        Gemma3TextConfig(**values | (SMALL if small else {})), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    for file in GEMMA.iterdir():
        if file.name != "config.json":
            shutil.copy(file, folder)
    count = Tokenizer.from_file(str(GEMMA / "tokenizer.json")).encode
    return {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "long": len(count(LONG).ids),
        "turn": len(count(TURN).ids),
    }


def export(folder: Path, kind: str) -> dict[str, Any]:
    from train.gguf import About
    from train.gguf import export as write_file

    start = time.perf_counter()
    out = folder / f"model-{kind}.gguf"
    write_file(folder, out, kind, About("bench"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - start, "memory": memory, "bytes": out.stat().st_size}


def bandwidth() -> dict[str, Any]:
    """Bytes a second that as many threads as cores read: the best of ten dot products over 2 GiB."""
    import numpy as np

    parts = np.array_split(np.ones(2**29, dtype=np.float32), os.cpu_count() or 1)
    best = 0.0
    with ThreadPoolExecutor(len(parts)) as pool:
        for _ in range(10):
            start = time.perf_counter()
            list(pool.map(lambda part: np.dot(part, part), parts))
            best = max(best, 2**31 / (time.perf_counter() - start))
    return {"bandwidth": best}


def original(folder: Path, tokens: int) -> dict[str, Any]:
    """Float32 and `generate`, one user."""
    start = time.perf_counter()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    load = time.perf_counter() - start

    class Moments:
        """A streamer that only notes when something came: the prompt, then each token."""

        def __init__(self) -> None:
            self.at: list[float] = []

        def put(self, _: Any) -> None:
            self.at.append(time.perf_counter())

        def end(self) -> None:
            pass

    def answer(messages: list[Message], tokens: int) -> Timed:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        moments, start = Moments(), time.perf_counter()
        written = model.generate(prompt, max_new_tokens=tokens, streamer=moments)[0, prompt.shape[1] :]
        text = tokenizer.decode(written, skip_special_tokens=True)
        return Timed(start, moments.at[1], moments.at[-1], len(written), text)

    return measure(remembering(answer), tokens, (1,)) | {"load": load, "memory": _memory()}


def bare(folder: Path, engine: str, file: str, tokens: int) -> dict[str, Any]:
    """Our engine's own stream."""
    from space.engine import load
    from space.settings import Settings

    start = time.perf_counter()
    loaded = load(Settings(model_id=str(folder), engine=engine, gguf_file=file))
    seconds = time.perf_counter() - start

    def answer(messages: list[Message], tokens: int) -> Timed:
        start, first, last, text = time.perf_counter(), 0.0, 0.0, ""
        pieces = loaded.stream(messages, loaded.sampling.changed({"max_new_tokens": tokens}), threading.Event())
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return Timed(start, first, last, end.value.completion_tokens, text)
            if piece:
                last = time.perf_counter()
                first, text = first or last, text + piece

    return measure(remembering(answer), tokens) | {"load": seconds, "memory": _memory()}


def own(folder: Path, file: str, tokens: int) -> dict[str, Any]:
    """llama.cpp's loop as it comes: its defaults for batches, its own clock; no Python between two tokens."""
    from xllamacpp import CommonParams, Server

    start = time.perf_counter()
    parameters = CommonParams()
    parameters.model.path = str(folder / file)
    parameters.n_parallel = 4
    parameters.n_ctx = 4 * 4096
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    parameters.verbosity = 1
    server = Server(parameters)
    seconds = time.perf_counter() - start

    def answer(messages: list[Message], tokens: int) -> Timed:
        request = {"messages": messages, "max_tokens": tokens, "temperature": 1.0, "top_k": 64, "top_p": 0.95}
        start = time.perf_counter()
        result = server.handle_chat_completions(request)
        timings = result["timings"]
        first = start + timings["prompt_ms"] / 1000
        last = first + timings["predicted_ms"] / 1000
        return Timed(start, first, last, timings["predicted_n"], result["choices"][0]["message"]["content"])

    return measure(remembering(answer), tokens) | {"load": seconds, "memory": _memory()}


def app(folder: Path, engine: str, file: str, tokens: int) -> dict[str, Any]:
    """`python app.py`, asked over HTTP: the page's stream, and whole answers of POST /answer."""
    with _serving(folder, engine, file) as (address, process):
        load = _until_ready(address)
        found = measure(lambda: _page(address), tokens)
        _answered(address, 16)
        short, long = (median(_answered(address, count) for _ in range(3)) for count in (16, 16 + tokens))
        return found | {"load": load, "memory": _memory(process.pid), "answer": tokens / (long - short)}


def growth(folder: Path, file: str) -> dict[str, Any]:
    """Milliseconds to the first token of each turn of one conversation on the page."""
    with _serving(folder, "llamacpp", file) as (address, _):
        _until_ready(address)
        talk = _page(address)
        return {"turns": [round(1000 * talk(TURN, 16).wait) for _ in range(TURNS)]}


class _serving:
    """`python app.py` for as long as the context lasts."""

    def __init__(self, folder: Path, engine: str, file: str) -> None:
        self._environment = os.environ | {
            "MODEL_ID": str(folder),
            "ENGINE": engine,
            "GGUF_FILE": file,
            "GENERATION_TIMEOUT": str(LIMIT),
            "GRADIO_SERVER_PORT": str(PORT),
            "HF_HUB_OFFLINE": "1",
        }

    def __enter__(self) -> tuple[str, subprocess.Popen[bytes]]:
        self._process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL
        )
        return f"http://127.0.0.1:{PORT}", self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _until_ready(address: str) -> float:
    start = time.perf_counter()
    while True:
        try:
            urllib.request.urlopen(f"{address}/health").close()
            return time.perf_counter() - start
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return dict(json.load(response))


def _answered(address: str, tokens: int) -> float:
    """Seconds of a whole answer."""
    start = time.perf_counter()
    answer = _post(f"{address}/answer", {"text": QUESTIONS[0], "max_new_tokens": tokens})
    assert answer["usage"]["completion_tokens"] == tokens, answer
    return time.perf_counter() - start


def _page(address: str) -> Ask:
    """A conversation through the page's own endpoint, whose session remembers it."""
    session = secrets.token_hex(8)

    def ask(question: str, tokens: int) -> Timed:
        start, first, last, text = time.perf_counter(), 0.0, 0.0, ""
        call = f"{address}/gradio_api/call/chat"
        body = {"data": [question, tokens, None, None, None, None, -1], "session_hash": session}
        event = _post(call, body)["event_id"]
        for shown in _shown(f"{call}/{event}"):
            if shown:
                last = time.perf_counter()
                first, text = first or last, shown
        return Timed(start, first, last, tokens, text)

    return ask


def _shown(url: str) -> Iterator[str]:
    """The answer's text each time the page is told of it."""
    with urllib.request.urlopen(url) as response:
        for line in response:
            data = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else None
            if data:
                yield data[0] if isinstance(data[0], str) else data[0][0]["content"]


def _memory(process: int | None = None) -> int:
    """Bytes resident, the mapped file's among them."""
    import psutil

    return int(psutil.Process(process).memory_info().rss)


# ---- the run ------------------------------------------------------------------------------------------------------


def measured(what: str, *arguments: Any) -> dict[str, Any]:
    """What a measurement found, in a process of its own; empty where it failed or took too long."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "bench.serve", "--one", json.dumps([what, *arguments], default=str)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=LIMIT)
        found = dict(json.loads(output.splitlines()[-1])) if process.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        found = {}
    print(f"{time.perf_counter() - start:6.1f} s  {what} {arguments[1:]}: {found or 'failed'}", flush=True)
    return found


def one(what: str, folder: str = "", *arguments: Any) -> None:
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        function.__name__: function for function in (make, export, bandwidth, original, bare, own, app, growth)
    }
    print(json.dumps(measures[what](*[Path(folder), *arguments] if folder else [])))


def rows_of(folder: Path, name: str, tokens: int) -> dict[str, dict[str, Any]]:
    """The measurements of a row by the title of each."""
    if name == "float32":
        return {"transformers float32, `generate`": measured("original", folder, tokens)}
    if name == "bfloat16":
        arguments = (folder, "transformers", "", tokens)
        return {f"transformers {name}, {way.__name__}": measured(way.__name__, *arguments) for way in (bare, app)}
    file = f"model-{name}.gguf"
    return {
        f"llama.cpp {name}, own loop": measured("own", folder, file, tokens),
        f"llama.cpp {name}, bare": measured("bare", folder, "llamacpp", file, tokens),
        f"llama.cpp {name}, app": measured("app", folder, "llamacpp", file, tokens),
    }


def report(
    about: dict[str, Any], exports: dict[str, Any], read: float, rows: dict[str, dict[str, Any]], turns: list[int]
) -> str:
    """The Markdown of a run."""
    slow = rows.get("transformers float32, `generate`", {}).get("rate1")
    size = {"float32": 4 * about["parameters"], "bfloat16": 2 * about["parameters"]}
    size |= {kind: found["bytes"] for kind, found in exports.items() if found}
    lines = []
    for title, found in rows.items():
        kind = title.split(",")[0].split()[-1]
        peer = rows.get(f"llama.cpp {kind}, own loop", {}).get("rate1")
        rate = found.get("rate1")
        cells = [
            title,
            _cell(found.get("load"), ".1f"),
            _cell(found.get("memory"), ".2f", 2**30),
            _cell(found.get("cold"), ".2f"),
            _cell(found.get("second"), ".2f"),
            _cell(found.get("second"), ".3f", found.get("cold")),
            _cell(found.get("third"), ".2f"),
            *(_cell(found.get(f"rate{users}"), ".1f") for users in (1, 2, 4)),
            _cell(found.get("answer"), ".1f"),
            _cell(rate, ".1f", slow),
            _cell(rate, ".2f", peer),
            _cell(rate, ".0%", read / size[kind] if read and kind in size else None),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    written = "; ".join(
        f"{kind} {found['bytes'] / 1e6:,.0f} MB in {found['seconds']:.1f} s with {found['memory'] / 2**30:.2f} GB"
        for kind, found in exports.items()
        if found
    )
    shown = "\n".join(f"| {turn} | {turns[turn - 1]} |" for turn in (1, 2, 5, 10, 15, 20) if turn <= len(turns))
    return "\n\n".join(
        [
            f"{about['parameters']:,} parameters. Bare: the engine's own stream; app: the page's, told at most 25 times a second, "
            f"and whole answers of `/answer`. Cold: a question of {about['long']:,} tokens and the system prompt. Turn three: "
            "another visitor asked between it and turn two. Two and four users: their rates added up. Share: weights read per "
            f"token × rate, of the machine's read bandwidth of {read / 1e9:.1f} GB/s (dot products of float32 on "
            f"{os.cpu_count()} threads). Files: {written}.",
            "\n".join(f"- {line}" for line in verdicts(exports, rows)),
            "| | load s | memory GB | cold first token s | turn two s | ratio | turn three s | 1 user tok/s | 2 users | 4 users "
            "| `/answer` | × float32 | × own loop | share |\n|" + "---|" * 14 + "\n" + "\n".join(lines),
            f"One conversation on the page with q4_0, every question {about['turn']} tokens and every answer 16:\n\n"
            "| turn | ms to the first token |\n|---|---|\n" + shown,
        ]
    )


def verdicts(exports: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[str]:
    """Which targets hold, and which do not, for q4_0 through the whole app."""
    whole = rows.get("llama.cpp q4_0, app", {})
    peer = rows.get("llama.cpp q4_0, own loop", {}).get("rate1")
    slow = rows.get("transformers float32, `generate`", {}).get("rate1")
    export = exports.get("q4_0", {})

    def said(target: str, value: float | None, limit: float, at_most: bool, spec: str) -> str:
        if value is None:
            return f"**not measured**: {target}"
        holds = value <= limit if at_most else value >= limit
        return f"**{'holds' if holds else 'MISSED'}**: {target}: {value:{spec}}"

    def ratio(name: str, of: float | None, rates: dict[str, Any] = whole) -> float | None:
        return rates[name] / of if of and rates.get(name) else None

    return [
        said("export to q4_0 in at most 60 s", export.get("seconds"), 60, True, ".1f"),
        said("and at most 3 GB of memory", ratio("memory", 2**30, export), 3, True, ".2f"),
        said("the page's decode at least 10 × float32 transformers", ratio("rate1", slow), 10, False, ".1f"),
        said("the page's decode at least 0.95 × llama.cpp's own loop", ratio("rate1", peer), 0.95, False, ".2f"),
        said("the same of `/answer`: 10 × float32 transformers", ratio("answer", slow), 10, False, ".1f"),
        said("the same of `/answer`: 0.95 × llama.cpp's own loop", ratio("answer", peer), 0.95, False, ".2f"),
        said("turn two's first token at most 0.05 × cold", ratio("second", whole.get("cold")), 0.05, True, ".3f"),
        said("four users all stream at once (1: yes)", whole.get("stream"), 1, False, ".0f"),
    ]


def _cell(value: float | None, spec: str, divisor: float | None = 1) -> str:
    return f"{value / divisor:{spec}}" if value is not None and divisor else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = measured("make", folder, options.small)
        if not about:
            raise SystemExit("The model could not be made; see above.")
        exports = {kind: measured("export", folder, kind) for kind in options.rows if "_" in kind or kind == "bf16"}
        read = measured("bandwidth").get("bandwidth", 0.0)
        rows: dict[str, dict[str, Any]] = {}
        for row in options.rows:
            rows |= rows_of(folder, row, ROWS[row])
        turns = measured("growth", folder, "model-q4_0.gguf").get("turns", []) if "q4_0" in options.rows else []
    text = report(about, exports, read, rows, turns)
    print(text)
    if not options.small:
        write("serve", text, ["torch", "transformers", "xllamacpp", "gradio"])


if __name__ == "__main__":
    main()
