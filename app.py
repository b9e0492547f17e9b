"""python app.py: settings → engine → chat → page → launch."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from space.settings import Settings

if TYPE_CHECKING:
    import gradio as gr

    from space.chat import Assistant


def serve(assistant: Assistant) -> tuple[gr.Blocks, str]:
    """Start loading the model and serve the page and the routes; returns at once, with the page and its address."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read by Gradio when it is imported
    from starlette.middleware import Middleware

    from space.api import MAX_BODY, add_routes
    from space.doors import Doors
    from space.ui import build, launch_options

    settings = assistant.settings
    assistant.start()
    page = build(assistant)
    page.queue(max_size=settings.max_running + settings.max_waiting, api_open=False)
    app, address, _ = page.launch(
        server_name=settings.server_name,
        server_port=settings.server_port or None,
        mcp_server=settings.mcp,
        prevent_thread_lock=True,
        app_kwargs={"middleware": [Middleware(Doors)], "max_body_size": MAX_BODY},
        **launch_options(),
    )
    add_routes(app, assistant)
    return page, address


def main() -> None:
    from space.chat import Assistant

    settings = Settings.from_env()
    try:
        page, address = serve(Assistant(settings))
    except OSError as error:
        sys.exit(
            f"Cannot listen on {settings.server_name}:{settings.server_port} ({error}); set GRADIO_SERVER_PORT to a free port."
        )
    print(f"Serving at {address} (HTTP API: {address}docs); stop with Ctrl+C.", flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
