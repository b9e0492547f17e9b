"""python app.py: settings → engine → chat → page → launch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from space.settings import Settings

if TYPE_CHECKING:
    import gradio as gr

    from space.chat import Assistant

_QUEUE = 1000
"""Questions in Gradio's own queue. The assistant has a shorter one, for all routes, and refuses with a sentence."""
_THREADS = 40
"""Of Gradio's threads, those that answers running and waiting leave to everything else."""
_GRACE = 3
"""Seconds that running answers may still take when the server is told to end; with all else it is gone in ten."""


def serve(assistant: Assistant) -> tuple[gr.Blocks, str]:
    """Start loading the model and serve the page and the routes; returns at once, with the page and its address."""
    # Read by Gradio when it is imported. Its queue would else keep statistics of all requests, and sum them up after each.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_ANALYTICS_MAX_EVENTS="1")
    os.environ.update(GRADIO_ANALYTICS_CACHE_FREQUENCY=str(10**9))
    from starlette.middleware import Middleware

    from space.api import MAX_BODY, add_routes
    from space.doors import Doors
    from space.headers import SecurityHeaders
    from space.ui import build, launch_options

    settings = assistant.settings
    assistant.start()
    page = build(assistant)
    page.queue(max_size=_QUEUE, api_open=False)
    app, address, _ = page.launch(
        server_name=settings.server_name,
        server_port=settings.server_port or None,
        mcp_server=settings.mcp,
        prevent_thread_lock=True,
        max_threads=_THREADS + settings.max_running + settings.max_waiting,
        app_kwargs={"middleware": [Middleware(SecurityHeaders), Middleware(Doors)], "max_body_size": MAX_BODY},
        **launch_options(),
    )
    add_routes(app, assistant)
    return page, address


def main() -> None:
    from space import log
    from space.chat import Assistant

    settings = Settings.from_env()
    log.set_up(settings.log_level)
    assistant = Assistant(settings)
    try:
        page, address = serve(assistant)
    except OSError as error:
        sys.exit(
            f"Cannot listen on {settings.server_name}:{settings.server_port} ({error}); set GRADIO_SERVER_PORT to a free port."
        )
    print(f"Serving at {address} (HTTP API: {address}docs); stop with Ctrl+C.", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        assistant.stop(_GRACE)
        time.sleep(0.5)  # what was said last is still on its way
        page.close(verbose=False)
    os._exit(0)  # an engine that does not come back would be waited for


if __name__ == "__main__":
    main()
