"""The HTTP routes beside the page: POST /answer, GET /health, and /docs that describes them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from html import escape
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from space.chat import Assistant, Caller, Reply, caller
from space.errors import BadRequest, SpaceError, TextTooLong
from space.prompt import Message

MAX_BODY = 1_000_000
"""Bytes of a request body; more is refused before it is parsed."""


class Turn(BaseModel):
    """One earlier message of the conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["user", "assistant"]
    content: str


class Question(BaseModel):
    """What to answer. Every value but `text` may be left out; sampling values default to the model's own."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(description="The question.", examples=["What are the symptoms of diabetes?"])]
    history: Annotated[list[Turn], Field(description="The conversation so far, oldest first.")] = []
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Page(BaseModel):
    """Where an answer can be checked."""

    site: str
    url: str


class Answer(BaseModel):
    """An answer and where it comes from."""

    answer: str
    model: str
    revision: str
    notice: Annotated[
        str,
        Field(
            description="What to know before the answer (Markdown): whom to call in an emergency, that it was cut; may be empty."
        ),
    ]
    finish_reason: Annotated[
        Literal["stop", "length", "timeout", "cancelled", "shutdown", "guarded", "failed"],
        Field(
            description="`guarded`: the notice stands in the model's place; `failed`: there was no model to answer after it."
        ),
    ]
    verify: Annotated[list[Page], Field(description="Trusted sites' own pages on the topic; no source of the answer.")]
    usage: Usage


class Problem(BaseModel):
    """What went wrong, as one sentence."""

    error: str


class Health(BaseModel):
    """Whether questions can be answered now."""

    state: Literal["loading", "ready", "failed", "stopping"]
    model: str
    revision: str
    reason: Annotated[str, Field(description="Why the state is not `ready`; empty where it is.")]


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The text is too long."},
    422: {"model": Problem, "description": "A value is missing or wrong."},
    429: {"model": Problem, "description": "Asked too often; Retry-After says when to try again."},
    503: {"model": Problem, "description": "Busy, loading or failed; Retry-After says when to try again."},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Question.model_json_schema(ref_template="#/components/schemas/{model}")}
        },
    }
}


def add_routes(app: FastAPI, assistant: Assistant) -> None:
    """Put the routes before Gradio's own in `app`, which has a route that takes any path."""
    api = FastAPI(
        title="Medical question answering",
        description="Educational only; not a substitute for professional medical advice.",
        version="1",
        docs_url=None,
        redoc_url=None,
    )

    # `_body` counts, and has a sentence for it.
    @api.post("/answer", response_model=Answer, responses=_PROBLEMS, openapi_extra=_BODY, max_body_size=sys.maxsize)
    async def answer(request: Request, response: Response) -> Any:
        """Answer one question, whole. A closed connection ends the generation."""
        who = caller(request, "/answer")
        named = {"X-Request-Id": who.id}
        try:
            question = _parse(await _body(request))
            reply = await _reply(assistant, question, request, who)
        except SpaceError as error:
            return _refusal({"error": str(error)}, error, error.status, named)
        response.headers.update(named)
        model, revision = _named(assistant)
        return Answer(
            answer=reply.text,
            model=model,
            revision=revision,
            notice="\n\n".join(filter(None, [reply.verdict.notice, reply.notice])),
            finish_reason=reply.finish_reason or "cancelled",
            verify=[Page(site=site, url=url) for site, url in reply.verify],
            usage=Usage(
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                total_tokens=reply.prompt_tokens + reply.completion_tokens,
            ),
        )

    @api.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> JSONResponse:
        """200 when questions can be answered, 503 while the model loads or when it could not be loaded."""
        model, revision = _named(assistant)
        body = {"state": assistant.state, "model": model, "revision": revision}
        try:
            await to_thread.run_sync(assistant.check)
        except SpaceError as error:
            return _refusal(body | {"reason": str(error)}, error, 503, {})
        return JSONResponse(body | {"reason": ""})

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_docs(api.openapi()))

    if assistant.metrics:
        metrics = assistant.metrics

        @api.get("/metrics", include_in_schema=False)
        async def counts() -> Response:
            content, media_type = metrics.page()
            return Response(content, media_type=media_type)

    app.router.routes[:0] = api.router.routes


def _refusal(body: dict[str, Any], error: SpaceError, status: int, headers: dict[str, str]) -> JSONResponse:
    """`body`, with when to try again where that makes sense."""
    return JSONResponse(body, status, headers | ({"Retry-After": str(error.retry_after)} if error.retry_after else {}))


def _named(assistant: Assistant) -> tuple[str, str]:
    """Model and revision: of the loaded one, or as they were asked for."""
    if known := assistant.provenance:
        return known.model, known.revision
    return assistant.settings.model_id, assistant.settings.model_revision


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TextTooLong(f"The request has more than {MAX_BODY:,} bytes; please shorten the text or the history.")
    return bytes(body)


def _parse(body: bytes) -> Question:
    try:
        return Question.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise BadRequest(f"In the request, {where}: {first['msg']}; see /docs for what is expected.") from error


async def _reply(assistant: Assistant, question: Question, request: Request, who: Caller) -> Reply:
    """The finished reply. Watches the connection meanwhile and cancels when it closes."""
    cancel = threading.Event()
    values = question.model_dump(exclude={"text", "history"})
    history = [Message(role=turn.role, content=turn.content) for turn in question.history]
    task = asyncio.ensure_future(assistant.answer(history, question.text, values, cancel, who))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            if await request.is_disconnected():
                cancel.set()
        return task.result()
    finally:
        cancel.set()


def _docs(schema: dict[str, Any]) -> str:
    """The OpenAPI description as one page without scripts; nothing is fetched from elsewhere."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            responses = "".join(
                f"<tr><td>{status}</td><td>{escape(response['description'])}</td></tr>"
                for status, response in route["responses"].items()
            )
            parts.append(
                f"<h2><code>{method.upper()} {path}</code></h2><p>{escape(route.get('description', ''))}</p>"
                f"<table><tr><th>status</th><th>meaning</th></tr>{responses}</table>"
            )
    schemas = "".join(
        f"<h3 id={name!r}>{name}</h3><p>{escape(body.get('description', ''))}</p>"
        f"<pre>{escape(json.dumps(body.get('properties', {}), indent=2))}</pre>"
        for name, body in {"Question": Question.model_json_schema(), **schema["components"]["schemas"]}.items()
    )
    example = escape("""curl -s http://127.0.0.1:7860/answer -H 'Content-Type: application/json' \\
     -d '{"text": "What are the symptoms of diabetes?"}'""")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(schema['info']['title'])}: HTTP API</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
        "pre{overflow:auto;padding:1rem;background:#8881;border-radius:8px}td,th{text-align:left;padding:.2rem 1rem .2rem 0}"
        "</style>"
        f"<h1>HTTP API</h1><p>{escape(schema['info']['description'])} "
        "The machine-readable description is <a href='openapi.json'>openapi.json</a>.</p>"
        f"<pre>{example}</pre>{''.join(parts)}<h2>Schemas</h2>{schemas}</html>"
    )
