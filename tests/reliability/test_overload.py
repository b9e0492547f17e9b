"""More people than places: some are served, the rest are told so at once."""

import asyncio
import time

import httpx
import pytest

from tests.fakes import FakeEngine
from tests.serving import serving

CLIENTS, RUNNING, WAITING = 50, 4, 8


class Echo(FakeEngine):
    """Answers with the question, word by word."""

    def stream(self, messages, sampling, cancel):
        own = FakeEngine(messages[-1]["content"], seconds_a_word=0.05)
        return (yield from own.stream(messages, sampling, cancel))


def text(number):
    return f"question {number} " + f"of number {number} " * 5


async def by_http(client, number):
    """Whether it was answered, and whether rightly answered or refused."""
    response = await client.post("/answer", json={"text": text(number)})
    if response.status_code == 200:
        return True, response.json()["answer"] == text(number).strip()
    return False, response.status_code == 503 and int(response.headers["Retry-After"]) > 0


async def by_gradio(client, number):
    body = {"data": [text(number), *[None] * 5, -1], "session_hash": f"session{number}"}
    joined = await client.post("/gradio_api/call/chat", json=body)
    told = await client.get(f"/gradio_api/call/chat/{joined.json()['event_id']}")
    said = told.text.split("event: complete")[1]
    return text(number).strip() in said, text(number).strip() in said or "no place is free" in said


# Gradio takes its time over fifty events, and shares this process with those who ask.
@pytest.mark.parametrize(("ask", "soon"), [(by_http, 1), (by_gradio, 5)])
def test_fifty_at_once_are_answered_each_his_own_or_refused_soon(ask, soon):
    async def timed(client, number):
        start = time.monotonic()
        return *await ask(client, number), time.monotonic() - start

    async def storm(address):
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
            await ask(client, CLIENTS)  # what is loaded with the first question
            return await asyncio.gather(*(timed(client, number) for number in range(CLIENTS)))

    with serving(Echo(), max_running=RUNNING, max_waiting=WAITING) as address:
        told = asyncio.run(storm(address))
    refused = [seconds for answered, _, seconds in told if not answered]
    assert all(right for _, right, _ in told)
    assert 0 < len(refused) <= CLIENTS - RUNNING - WAITING
    assert max(refused) < soon
