"""What a licence asks of those who publish a model made from another: a copy of it, and a notice of what was changed."""

from __future__ import annotations

import re
from pathlib import Path

from train.errors import TrainError
from train.recipe import Recipe

GEMMA = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms."
"""The Notice that section 3.1 of those terms demands, word for word."""

_COPY = re.compile(r"(licen[cs]e|copying|terms|gemma[-_ ]terms)[^/]*", re.IGNORECASE)
"""Names of files that hold a licence."""

_RESTRICTIONS = """The use restrictions in section 3.2 of the Gemma Terms of Use, a copy of which is the file LICENSE, and the Gemma Prohibited
Use Policy at ai.google.dev/gemma/prohibited_use_policy apply to this model and to whatever is made from it. Whoever passes it on
has to make them an enforceable provision of the agreement under which it is passed on, and to hand over this notice and a copy
of the terms."""


def bundle(recipe: Recipe, base: str, licence: str, terms: Path | None, modified: list[str]) -> dict[str, bytes]:
    """LICENSE and NOTICE, to lie beside the model.

    `licence` is the Hub's name for the base's, `base` what readers know the base as, `terms` a copy of the licence that the
    user has (else the base's own is taken), `modified` the files whose content is not the base's. Raises `TrainError` where no
    copy is to be had, or one that is not of Gemma's terms for a model under them.
    """
    copy = _given(terms) if terms else _carried(recipe)
    if licence == "gemma" and "Gemma Terms of Use" not in copy:
        raise TrainError(
            f"{terms or 'The licence that the base carries'} is not a copy of the Gemma Terms of Use; save the page "
            "https://ai.google.dev/gemma/terms as text and give it with --terms FILE."
        )
    parts = [
        *([GEMMA] if licence == "gemma" else []),
        f"{recipe.name} is made from {base}, whose licence is the file LICENSE.",
        f"These files were modified: the weights they hold were changed by fine-tuning. {', '.join(modified)}",
        *([_RESTRICTIONS] if licence == "gemma" else []),
    ]
    return {"LICENSE": copy.encode(), "NOTICE": ("\n\n".join(parts) + "\n").encode()}


def _given(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(f"The terms {file} cannot be read as a text file; name another with --terms.") from error


def _carried(recipe: Recipe) -> str:
    """The copy of its licence that the base itself carries."""
    from space.settings import DEMO_MODEL
    from train.hub import fetch, listing, patiently

    folder = Path(recipe.base)
    if folder.resolve() == DEMO_MODEL.resolve():  # part of this project, and under its licence
        return _given(DEMO_MODEL.parent.parent / "LICENSE")
    if folder.is_dir():
        if found := sorted(file for file in folder.iterdir() if _COPY.fullmatch(file.name)):
            return _given(found[0])
    else:
        revision = recipe.base_revision or "main"
        listed = patiently(lambda: listing(recipe.base, revision), recipe.base)
        if copies := sorted(name for name in listed if _COPY.fullmatch(name)):
            return fetch(recipe.base, copies[0], revision).decode("utf-8", errors="replace")
    raise TrainError(
        f"The base {recipe.base} carries no copy of its licence, and a model made from it may not be published without; save the "
        "licence as a text file and give it with --terms FILE."
    )
