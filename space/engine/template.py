"""A model's chat template, rendered as transformers renders it, without transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from space.prompt import Message


def compile_template(text: str, **tokens: str) -> Callable[[list[Message]], str]:
    """From messages to the prompt's text, up to where the answer begins. `tokens` are names like bos_token.

    In jinja2's sandbox: a template comes with the model, so it is a stranger's code. Raises `jinja2.TemplateError`, at once
    where it cannot be read, and from the returned function where it refuses the messages.
    """
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})  # jinja2's own escapes HTML

    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    sandbox.filters["tojson"] = to_json
    sandbox.globals["raise_exception"] = refuse
    sandbox.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    template = sandbox.from_string(text)
    return lambda messages: template.render(
        messages=messages, add_generation_prompt=True, tools=None, documents=None, **tokens
    )
