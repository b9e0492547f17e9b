"""What deploy/Dockerfile says, stage by stage."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def instructions():
    """(word, rest) of every instruction, in order."""
    text = re.sub(r"^#.*\n", "", _TEXT, flags=re.MULTILINE).replace("\\\n", "")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line]


def stages():
    """The instructions of each stage by its name; a stage begins with those of the one it is built from."""
    found = {}
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = list(found.get(base, []))
        elif found:
            found[name].append((word, rest))
    return found


def last(stage, word):
    """What the last instruction of this kind in a stage says."""
    return [rest for kind, rest in stages()[stage] if kind == word][-1]


def environment(stage):
    """The variables that the image of this stage sets."""
    return dict(pair.split("=", 1) for word, rest in stages()[stage] if word == "ENV" for pair in rest.split())


def command(text, python):
    """CMD's words, or those behind HEALTHCHECK's CMD, with this interpreter in python's place."""
    name, *rest = json.loads(text[text.index("[") :])
    assert name == "python"
    return [*python, *rest]
