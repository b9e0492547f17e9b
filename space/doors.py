"""The addresses that are answered. Gradio serves many more than this page has a use for: uploads, files of the server, a
proxy, an editor of its own code. What is not listed here is not there."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space import log
from space.errors import UNFIT

_OPEN = re.compile(
    r"""
    /(answer|health|docs|openapi\.json|metrics)?                            # ours, and the page
    | /(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?         # what the page is made of
    | /(assets|static)/(?!.*\.\.)[\w./@-]+
    | /gradio_api/(app_id|info|startup-events|theme\.css)/?                  # what Gradio's clients ask first
    | /gradio_api/(queue/join|queue/data|run/predict|cancel|reset|heartbeat/[\w-]+)/?    # questions and answers
    | /gradio_api/call/(chat|ask)(/[\w-]+)?/?
    | /gradio_api/mcp(/.*)?
    """,
    re.VERBOSE,
)


class Doors:
    """ASGI middleware that answers 404 in the place of `app` to every address that is not listed, and a sentence where it fails.

    Gradio fails (500) at values that do not fit, and what it raised would be printed with what a visitor typed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _OPEN.fullmatch(scope["path"]):
            await self._open(scope, receive, send)
        else:
            error = "There is nothing at this address; see /docs for what there is."
            await JSONResponse({"error": error}, 404)(scope, receive, send)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 422 if scope["path"].startswith("/gradio_api/") else 503
        begun = gone = False

        async def sending(message: Message) -> None:
            nonlocal begun, gone
            if message["type"] == "http.response.start" and message["status"] == 500:
                message["status"] = status
            gone = True  # where sending fails: nobody listens any more, or the server has answered in our place
            await send(message)
            begun, gone = True, False

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if gone:
                raise
            log.failure("A request failed.", error)
            if begun:
                await send({"type": "http.response.body"})
            else:
                await JSONResponse({"error": UNFIT}, status)(scope, receive, send)
