"""A conversation as a file for the visitor: Markdown to read, JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from space.engine.provenance import Provenance
from space.prompt import Message

DISCLAIMER = (
    "Educational only: not a substitute for professional medical advice, and it may be wrong or outdated. "
    "In an emergency, call your local emergency number."
)


def as_markdown(messages: Sequence[Message], provenance: Provenance, sampling: Mapping[str, Any], when: str) -> str:
    """`messages` with role "system" are the page's own notices. `when` is an ISO 8601 time."""
    speakers = {"user": "You", "assistant": "Assistant", "system": "Notice"}
    settings = ", ".join(f"{name} {value}" for name, value in sampling.items())
    turns = "\n\n".join(f"**{speakers[m['role']]}**\n\n{m['content'].strip()}" for m in messages)
    return (
        f"# Conversation of {when}\n\n> {DISCLAIMER}\n\n"
        f"- Model: {provenance.model}\n- Revision: {provenance.revision or 'not given'}\n- Settings: {settings}\n\n"
        f"---\n\n{turns}\n"
    )


def as_json(messages: Sequence[Message], provenance: Provenance, sampling: Mapping[str, Any], when: str) -> str:
    return json.dumps(
        {
            "disclaimer": DISCLAIMER,
            "exported": when,
            "model": provenance.model,
            "revision": provenance.revision,
            "settings": dict(sampling),
            "messages": list(messages),
        },
        ensure_ascii=False,
        indent=2,
    )
