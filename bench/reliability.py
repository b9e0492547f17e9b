"""What the server promises under load and faults, on the real app with the embedded model.

    python -m bench.reliability [--engines llamacpp transformers] [--times 100] [--conversations 1000] [--page]

Starts `python app.py` as a person would, once for each engine, on loopback, and misbehaves: leaves in the middle of answers
by every route (a quarter as often on the page), asks with fifty clients at once, asks for its health meanwhile, holds a thousand
conversations of which three of ten are broken off, and kills it; with `--page` only what is done on the page. Page rows need Debian's `chromium`. Prints a table and writes it to bench/RESULTS.md;
exits with 1 where a promise was broken. The quick twins of these, with an engine of known speed, are in tests/reliability.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

from bench.results import table, write

ROOT = Path(__file__).parent.parent
PORT = 7897
ADDRESS = f"http://127.0.0.1:{PORT}"
LIMIT = 60
"""Seconds that anything may take before the run gives up."""
TOPICS = ["asthma", "diabetes", "migraine", "gout", "anaemia", "eczema", "malaria", "measles"]
MOMENT = 0.2
"""Leaving happens at a random moment within so many seconds of asking: before the first word, in the middle, after the end."""
WANDERING = {"temperature": 2.0, "max_new_tokens": 256}
"""Sampling with which the embedded model writes for longer than a moment."""


Pause = Callable[[], None]
"""Waits for the random moment and notes whether the answer is still being written then."""


@dataclass(frozen=True)
class Row:
    """A promise and what was measured."""

    what: str
    found: str
    kept: bool


# ---- the app ------------------------------------------------------------------------------------------------------


class App:
    """`python app.py` with an engine, in a process of its own."""

    def __init__(self, engine: str, home: Path) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV", "LANG") if name in os.environ}
        settings = {"ENGINE": engine, "GRADIO_SERVER_PORT": str(PORT), "METRICS": "1", "MCP": "1", "LOG_LEVEL": "error"}
        self._environment = kept | settings | {"HOME": str(home), "HF_HUB_OFFLINE": "1"}
        self._log = home / "log"

    def start(self) -> float:
        """Seconds until it is ready."""
        start = time.perf_counter()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        until(self.ready)
        return time.perf_counter() - start

    def ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return client().get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def memory(self) -> float:
        """Megabytes of the process's own, files that are mapped left out."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise OSError("no RssAnon in /proc")


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LIMIT
    while not (value := true()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return value


@cache
def client() -> httpx.Client:
    """One for all: making one takes longer than an answer."""
    return httpx.Client(base_url=ADDRESS, timeout=LIMIT, limits=httpx.Limits(max_connections=100))


def running() -> int:
    """Places that are taken, as /metrics counts them."""
    lines = client().get("/metrics").text.splitlines()
    return int(
        sum(float(line.split()[1]) for line in lines if line.startswith(("medical_qa_running", "medical_qa_wai")))
    )


def ask(text: str, **values: Any) -> httpx.Response:
    return client().post("/answer", json={"text": text} | values)


# ---- leaving ------------------------------------------------------------------------------------------------------


@contextmanager
def sent(method: str, path: str, body: Any = None, accept: str = "*/*") -> Iterator[None]:
    """A request that is never read; the connection is closed when the context ends."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection(("127.0.0.1", PORT), timeout=LIMIT) as sock:
        sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield


def joined() -> tuple[str, str]:
    """The event and the session of a question put to Gradio's endpoint."""
    session = secrets.token_hex(8)
    values = [WANDERING["max_new_tokens"], WANDERING["temperature"], None, None, None, -1]
    body = {"data": [f"What is {random.choice(TOPICS)}?", *values], "session_hash": session}
    return client().post("/gradio_api/call/chat", json=body).json()["event_id"], session


def leave_answer(pause: Pause) -> None:
    with sent("POST", "/answer", {"text": f"What is {random.choice(TOPICS)}?", **WANDERING}):
        pause()


def leave_gradio(pause: Pause) -> None:
    event, _ = joined()
    with sent("GET", f"/gradio_api/call/chat/{event}"):
        pause()


def stop_gradio(pause: Pause) -> None:
    event, session = joined()
    with sent("GET", f"/gradio_api/call/chat/{event}"):
        pause()
        config = client().get("/config").json()
        chat = next(each["id"] for each in config["dependencies"] if each["api_name"] == "chat")
        client().post("/gradio_api/cancel", json={"session_hash": session, "fn_index": chat, "event_id": event})


def leave_mcp(pause: Pause) -> None:
    asked = {"name": "ask", "arguments": {"question": f"What is {random.choice(TOPICS)}?"}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked}
    with sent("POST", "/gradio_api/mcp/", call, "application/json, text/event-stream"):
        pause()


class Browser:
    """The page in Debian's chromium, with answers that wander."""

    def __init__(self) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        chromium = self._playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        self._context = chromium.new_context()
        self._context.set_default_timeout(1000 * LIMIT)
        self.open()

    def open(self) -> None:
        self.page = self._context.new_page()
        self.page.goto(ADDRESS)
        self.page.get_by_test_id("textbox").wait_for()
        self.page.wait_for_function("document.querySelector('#model')?.className === 'ready'")
        self.page.get_by_label("Toggle Sidebar").click()
        for slider, value in (("Temperature", "temperature"), ("Longest answer", "max_new_tokens")):
            box = self.page.get_by_label(f"number input for {slider}")
            box.fill(str(WANDERING[value]))
            box.blur()
        self.page.get_by_label("Toggle Sidebar").click()

    def type(self, text: str) -> None:
        self.page.get_by_test_id("textbox").fill(text)
        self.page.get_by_test_id("textbox").press("Enter")

    def stop(self, pause: Pause) -> None:
        """Stops by its button what is being answered, unless that was faster."""
        from playwright.sync_api import Error

        try:
            button = self.begun()
        except Error:
            return
        pause()

        def clicked() -> bool:
            with suppress(Error):  # the button is gone, or the browser busy
                button.click(force=True, timeout=300, no_wait_after=True)
                return True
            return running() == 0

        until(clicked)

    def begun(self) -> Any:
        """The Stop button, once it takes a press."""
        button = self.page.locator("body.stoppable .stop-button")
        button.wait_for(timeout=1000)
        return button

    def settled(self) -> None:
        """Waits until the next question can be asked."""
        self.page.get_by_role("button", name="Ask", exact=True).wait_for()

    def answered(self) -> None:
        """Makes the conversation end with an answer: only then is there something to retry or to edit."""
        self.settled()
        retry = self.page.get_by_label("Retry").last
        if not retry.is_visible():
            self.type(f"What is {random.choice(TOPICS)}?")
            retry.wait_for()
            self.settled()

    def stopped(self, pause: Pause) -> None:
        self.settled()
        self.type(f"What is {random.choice(TOPICS)}?")
        self.stop(pause)

    def retried(self, pause: Pause) -> None:
        self.answered()
        self.page.get_by_label("Retry").last.click()
        self.stop(pause)

    def edited(self, pause: Pause) -> None:
        self.answered()
        box = self.page.locator("#conversation textarea").last

        def opened() -> bool:  # an update that is still on its way closes it again
            self.page.get_by_label("Edit").last.click()
            self.page.wait_for_timeout(200)
            return box.is_visible()

        until(opened)
        box.fill(f"What is {random.choice(TOPICS)}?")
        self.page.get_by_label("Submit", exact=True).last.click()
        self.stop(pause)

    def left(self, pause: Pause) -> None:
        """Closes a tab in the middle of its answer."""
        from playwright.sync_api import Error

        self.open()
        self.type(f"What is {random.choice(TOPICS)}?")
        with suppress(Error):
            self.begun()
        pause()
        self.page.close()

    def close(self) -> None:
        self._playwright.stop()


def leaving(name: str, leave: Callable[[Pause], None], times: int) -> Row:
    """Seconds until no place is taken any more, after each; the next question must be answered, and some of the answers
    must have been in the middle."""
    draw, seconds, left, middle = random.Random(7), [], [], 0

    def pause() -> None:
        nonlocal middle
        time.sleep(draw.uniform(0, MOMENT))
        middle += running() > 0
        left.append(time.perf_counter())

    for _ in range(times):
        leave(pause)
        until(lambda: running() == 0)
        if left:  # none where the answer was there before it could be left
            seconds.append(time.perf_counter() - left.pop())
    served = "asthma" in ask("What are the symptoms of asthma?").json()["answer"]
    return Row(
        f"{name}, {times} times: generation ends within 0.5 s, the next question is answered",
        f"{middle} in the middle of an answer; median {median(seconds):.2f} s, longest {max(seconds):.2f} s",
        served and middle > 0 and max(seconds) < 0.5 + 0.1,  # a token, and a look at /metrics
    )


def page_rows(times: int) -> list[Row]:
    if not shutil.which("chromium"):
        return [Row("the page's Stop, retry, edit and closed tab", "not measured: no chromium", False)]
    browser = Browser()
    try:
        rows = [leaving("Stop on the page", browser.stopped, times)]
        rows.append(leaving("retry on the page, then Stop", browser.retried, times))
        rows.append(leaving("edit on the page, then Stop", browser.edited, times))
        rows.append(leaving("the page's tab closed", browser.left, times))
        return rows
    finally:
        browser.close()


# ---- load ---------------------------------------------------------------------------------------------------------


def overload() -> Row:
    """Fifty clients at once, of which twelve find room."""
    whole = {topic: ask(f"What are the symptoms of {topic}?").json()["answer"] for topic in TOPICS}

    def one(number: int) -> tuple[bool, bool, float]:
        topic, start = TOPICS[number % len(TOPICS)], time.perf_counter()
        response = ask(f"What are the symptoms of {topic}?")
        seconds = time.perf_counter() - start
        if response.status_code == 200:
            return True, response.json()["answer"] == whole[topic], seconds
        return False, response.status_code == 503 and "Retry-After" in response.headers, seconds

    with ThreadPoolExecutor(50) as pool:
        told = list(pool.map(one, range(50)))
    refused = [seconds for served, _, seconds in told if not served]
    slowest = max(refused, default=0.0)
    return Row(
        "50 clients at once, room for 4 and 8 waiting: the rest refused within 1 s with Retry-After, no answers mixed up",
        f"{50 - len(refused)} answered, {len(refused)} refused, the slowest refusal after {slowest:.2f} s",
        all(right for _, right, _ in told) and slowest < 1,
    )


def health_while_generating(seconds: float = 20) -> Row:
    """/health at 20 a second while four clients ask without a pause."""
    over = threading.Event()

    def busy(number: int) -> None:
        while not over.is_set():
            ask(f"What is {TOPICS[number]}?", **WANDERING)

    times = []
    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            pool.submit(busy, number)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            assert client().get("/health").status_code == 200
            times.append(time.perf_counter() - start)
            time.sleep(0.05)
        over.set()
    worst = quantiles(times, n=100)[98]
    return Row(
        "`/health` while four answers are being generated: p99 < 250 ms",
        f"p50 {1000 * median(times):.0f} ms, p99 {1000 * worst:.0f} ms of {len(times)}",
        worst < 0.25,
    )


def soak(app: App, conversations: int) -> Row:
    """Conversations of two turns, four at a time, on Gradio's endpoint and /answer by turns; three of ten are broken off."""
    draw = random.Random(11)
    plans = [(draw.random() < 0.3, draw.uniform(0, MOMENT)) for _ in range(conversations)]
    seconds: list[float] = []

    def whole(number: int) -> None:
        topic, start = TOPICS[number % len(TOPICS)], time.perf_counter()
        if number % 2:
            event, _ = joined()
            with client().stream("GET", f"/gradio_api/call/chat/{event}") as response:
                assert "complete" in response.read().decode()
        first = ask(f"What is {topic}?").json()["answer"]
        turns = [{"role": "user", "content": f"What is {topic}?"}, {"role": "assistant", "content": first}]
        assert ask("How is it treated?", history=turns).status_code == 200
        seconds.append(time.perf_counter() - start)

    def converse(number: int) -> None:
        aborted, moment = plans[number]
        if aborted:
            (leave_answer, leave_gradio, stop_gradio)[number % 3](lambda: time.sleep(moment))
        else:
            whole(number)

    def settled() -> tuple[int, float]:
        until(lambda: running() == 0)
        time.sleep(12)  # idle threads of the server's pool end after ten seconds, when the next request comes
        ask("What is asthma?")
        time.sleep(1)
        return app.threads(), app.memory()

    def hold(numbers: range) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(converse, numbers))

    hold(range(min(100, conversations)))  # what a server starts once stays: threads, caches, code that is loaded late
    seconds.clear()
    threads, memory = settled()
    hold(range(conversations))
    after, grown = settled()
    tenth = len(seconds) // 10
    first, last = quantiles(seconds[:tenth], n=20)[18], quantiles(seconds[-tenth:], n=20)[18]
    return Row(
        f"{conversations:,} conversations, 30 % broken off: threads ± 0, memory + < 50 MB, p95 of the last tenth ≤ 1.2 of the first",
        f"threads {threads} → {after}, memory {grown - memory:+.0f} MB, p95 {first:.2f} → {last:.2f} s",
        after <= threads and grown - memory < 50 and last <= 1.2 * first,
    )


# ---- the end ------------------------------------------------------------------------------------------------------


def told_to_end(app: App) -> Row:
    """SIGTERM while four answers are being read."""
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, f"What is {topic}?", **WANDERING) for topic in TOPICS[:4]]
        time.sleep(0.2)
        start = time.perf_counter()
        code = app.end(signal.SIGTERM)
        seconds = time.perf_counter() - start
        ended = [each.result().json().get("finish_reason") or "refused" for each in asked]
    return Row(
        "SIGTERM while streaming: answers end or are marked as cut, gone within 10 s with code 0",
        f"code {code} after {seconds:.1f} s; answers: {', '.join(ended)}",
        code == 0 and seconds < 10,
    )


def killed(app: App, cold: float) -> Row:
    app.end(signal.SIGKILL)
    again = app.start()
    return Row(
        "kill -9 and start again: ready within the time of a cold start (+ 20 %)",
        f"first start {cold:.1f} s, again {again:.1f} s",
        again < 1.2 * cold and "asthma" in ask("What are the symptoms of asthma?").json()["answer"],
    )


def rows_of(engine: str, times: int, conversations: int, page_only: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as home:
        app = App(engine, Path(home))
        cold = app.start()
        try:
            ask("What is asthma?", **WANDERING)  # what is loaded with the first questions is loaded now
            stop_gradio(lambda: time.sleep(1))
            if page_only:
                yield from page_rows(max(1, times // 4))
                return
            yield leaving("`/answer` disconnected", leave_answer, times)
            yield leaving("Gradio's endpoint disconnected", leave_gradio, times)
            yield leaving("Gradio's endpoint cancelled", stop_gradio, times)
            yield leaving("MCP disconnected", leave_mcp, times)
            yield from page_rows(max(1, times // 4))
            yield overload()
            yield health_while_generating()
            yield soak(app, conversations)
            yield killed(app, cold)
            yield told_to_end(app)
        finally:
            app.process.kill()
            app.process.wait()


def before() -> dict[tuple[str, str], str]:
    """The rows in bench/RESULTS.md by engine and promise."""
    lines = table("reliability").splitlines()[2:]
    return {(line.split("|")[1].strip(), line.split("|")[2].strip()): line for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["llamacpp", "transformers"])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--page", action="store_true", help="only what is done on the page")
    options = parser.parse_args()
    head, lines, kept = ["| engine | promise | measured | kept |", "|---|---|---|---|"], before(), True
    print(*head, sep="\n", flush=True)
    for engine in options.engines:
        if not options.page:
            lines = {(of, what): line for (of, what), line in lines.items() if of != engine}
        for row in rows_of(engine, options.times, options.conversations, options.page):
            line = f"| {engine} | {row.what} | {row.found} | {'yes' if row.kept else '**no**'} |"
            lines[engine, row.what] = line
            print(line, flush=True)
            kept = kept and row.kept
        text = "Embedded model.\n\n" + "\n".join([*head, *lines.values()])
        write("reliability", text, ["gradio", "torch", "transformers", "xllamacpp"])
    sys.exit(not kept)


if __name__ == "__main__":
    main()
