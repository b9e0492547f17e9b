"""What a model says of itself: read from the files that travel with it, never typed by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from. Empty strings and tuples where the model's files are silent."""

    model: str
    revision: str = ""
    embedded: bool = False
    base: str = ""
    data: tuple[str, ...] = ()
    licence: str = ""
    scores: tuple[tuple[str, str], ...] = ()
    """(what was measured, the figure), from the model card's model-index."""
    topics: int = 0
    """How many topics the embedded model knows by heart; 0 for a model with general knowledge."""
    runs_on: str = ""


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def _card(file: Path) -> ModelCardData | None:
    """The front matter of a model card; None where there is none or it cannot be read, as that must not stop a model."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data if file.is_file() else None
    except (YAMLError, ValueError):
        return None


def read(folder: Path, settings: Settings, runs_on: str) -> Provenance:
    """The provenance of the model in `folder`: model card front matter, and metrics.json of the embedded one.

    A folder inside the Hub's cache is named after its commit; that is the revision, exactly.
    """
    card, metrics_file = _card(folder / "README.md"), folder / "metrics.json"
    metrics = json.loads(metrics_file.read_text()) if settings.embedded and metrics_file.is_file() else {}
    results = (card.eval_results or []) if card else []
    name = card.get("model_name") if card else None
    return Provenance(
        model=(name or "embedded demo model") if settings.embedded else settings.model_id,
        revision=folder.name if folder.parent.name == "snapshots" else settings.model_revision,
        embedded=settings.embedded,
        base=", ".join(_names(card.get("base_model"))) if card else "",
        data=_names(card.get("datasets")) if card else (),
        licence=str(card.get("license") or "") if card else "",
        scores=tuple((f"{r.metric_name or r.metric_type} ({r.dataset_name})", f"{r.metric_value}") for r in results),
        topics=int(metrics.get("topics", 0)),
        runs_on=runs_on,
    )
