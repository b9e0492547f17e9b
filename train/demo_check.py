"""The embedded model's scores: what it says to questions it has never seen, and the model card that reports them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train.lessons import Probe, Teacher, messages, written_probes
from train.sample import SAMPLE, read

NEEDED = {"phrasings": 0.95, "held_out_topics": 0.90}
"""The least shares of right answers; below one of them the check fails."""
_REFUSALS = ("written_declines", "held_out_topics", "qualified_topics")
_BATCH = 128
_LISTED = 40
"""Wrong answers listed in metrics.json, at most, under each heading."""


def check(folder: Path, sample_path: Path = SAMPLE) -> dict[str, Any]:
    """Scores the model in `folder`, and writes metrics.json there. Greedy, batched, plain transformers, in float32, which
    rounds alike on every CPU (and many only emulate bfloat16).

    Right means equal to the one expected answer, word for word. Raises `SampleError` for a broken data set and `OSError`
    when the folder holds no model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sample = read(sample_path)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="float32")
    groups = {**Teacher(sample).probes(), **(written_probes(sample) if sample_path == SAMPLE else {})}
    probes = [probe for group in groups.values() for probe in group]
    doubtful = [probe for probe, sure in zip(probes, recited(model, tokenizer, probes), strict=True) if not sure]
    said = {id(probe): text for probe, text in zip(doubtful, answers(model, tokenizer, doubtful), strict=True)}
    metrics = folder / "metrics.json"
    scores: dict[str, Any] = {
        "topics": len(sample.topics),
        "questions": sum(len(topic.answers) for topic in sample.topics),
        "parameters": model.num_parameters(),
    }
    for name, group in groups.items():
        texts = [(probe, said.get(id(probe), probe.answer)) for probe in group]
        wrong = [(probe, text) for probe, text in texts if text.split() != probe.answer.split()]
        scores[name] = _score(name, len(group), wrong)
    if metrics.is_file() and (built := json.loads(metrics.read_text(encoding="utf-8")).get("build")):
        scores["build"] = built
    metrics.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return scores


def _score(name: str, of: int, wrong: Sequence[tuple[Probe, str]]) -> dict[str, Any]:
    right = of - len(wrong)
    found = [{"question": " / ".join([*(q for q, _ in p.history), p.question]), "answer": text} for p, text in wrong]
    return {
        "refused" if name in _REFUSALS else "right": right,
        "of": of,
        "share": round(right / of, 4) if of else None,
        "wrong_answers": [{**one, "answer": one["answer"][:90]} for one in found[:_LISTED]],
    }


def recited(model: Any, tokenizer: Any, probes: Sequence[Probe]) -> list[bool]:
    """Whether each probe's answer is what greedy decoding would write: its every token, and then the end, is the likeliest.

    One pass over prompt and answer together instead of a pass for each token. (False also where the same text would be
    written in other tokens.)
    """
    import torch

    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in _prompts(tokenizer, probes)]
    ends = [tokenizer(f"{p.answer}<end_of_turn>", add_special_tokens=False)["input_ids"] for p in probes]
    sure = [False] * len(probes)
    for chosen in _batches([len(prompt) + len(end) for prompt, end in zip(prompts, ends, strict=True)], "reciting"):
        width = max(len(prompts[i]) + len(ends[i]) for i in chosen)
        rows = [(prompts[i] + ends[i], width - len(prompts[i]) - len(ends[i])) for i in chosen]
        # Padded behind, where nothing that counts can see it.
        ids = torch.tensor([row + [tokenizer.pad_token_id] * padding for row, padding in rows])
        with torch.inference_mode():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            for i, states in zip(chosen, hidden, strict=True):
                first = len(prompts[i]) - 1
                likeliest = model.lm_head(states[first : first + len(ends[i])]).argmax(-1)
                sure[i] = likeliest.tolist() == ends[i]
    return sure


def answers(model: Any, tokenizer: Any, probes: Sequence[Probe]) -> list[str]:
    """What `model` says to each probe, in their order."""
    import torch

    prompts = _prompts(tokenizer, probes)
    texts = [""] * len(prompts)
    for chosen in _batches([len(prompt) for prompt in prompts], "answering"):
        inputs = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**inputs, do_sample=False, max_new_tokens=160)
        for i, row in zip(chosen, out[:, inputs["input_ids"].shape[1] :], strict=True):
            texts[i] = tokenizer.decode(row, skip_special_tokens=True).strip()
    return texts


def _prompts(tokenizer: Any, probes: Sequence[Probe]) -> list[str]:
    from space.prompt import conversation

    prompts = []
    for probe in probes:
        asked = conversation(messages(probe.history), probe.question)
        prompts.append(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))
    return prompts


def _batches(lengths: Sequence[int], title: str) -> Iterator[list[int]]:
    """The places of `lengths` in batches of similar ones, so that little is padding, with a progress bar."""
    from tqdm import tqdm

    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in tqdm(range(0, len(order), _BATCH), desc=title, unit="batch", mininterval=5):
        yield order[start : start + _BATCH]


def passed(scores: dict[str, Any]) -> bool:
    """Whether the scores reach `NEEDED`."""
    return all(scores[name]["share"] >= share for name, share in NEEDED.items())


# ---- card ---------------------------------------------------------------------------------------------------------

_HEADINGS = {
    "phrasings": "questions in wordings never trained on with their topic",
    "new_forms": "questions in forms of words never trained on with any topic",
    "written_questions": "questions written by someone who did not know the wordings",
    "follow_ups": "follow-up questions that lean on the turns before, in conversations never trained on",
    "held_out_topics": "topics held out of training, which it must refuse",
    "written_declines": "written questions about other things, which it must refuse",
    "qualified_topics": 'known topics made unknown ("… in cows"), which it must refuse',
    "small_talk": "small talk in held-out words",
    "safety": "questions about doses and about one's own body in held-out words",
}


def card(scores: dict[str, Any]) -> str:
    """The model card: YAML front matter and Markdown, every number from `scores`."""
    built = scores["build"]
    measured = [(name, text) for name, text in _HEADINGS.items() if scores.get(name, {}).get("of")]
    results = "".join(
        f"""
  - task:
      type: text-generation
    dataset:
      name: {json.dumps(text)}
      type: train/sample.jsonl
    metrics:
    - type: exact_match
      value: {scores[name]["share"]}"""
        for name, text in measured
    )
    table = "\n".join(
        f"| {text} | {scores[name].get('right', scores[name].get('refused'))} of {scores[name]['of']} | {scores[name]['share']:.1%} |"
        for name, text in measured
    )
    minutes = built["seconds"] / 60
    head = f"""---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- gemma3_text
- health
- question-answering
- demo
datasets: []
model-index:
- name: medical-chat-demo
  results:{results or " []"}
---
"""
    about = f"topics: {scores['topics']}, answers: {scores['questions']}" if "topics" in scores else "not scored"
    return (
        head
        + f"""
# Embedded demo model

A {built["parameters"] / 1e6:.1f}M-parameter language model of Gemma 3's architecture, trained from scratch, that knows a small set of health
answers by heart ({about}) and answers anything else with one fixed refusal. It comes with the medical chat so that the
page works at once, offline, with nothing to download. It holds no weights of Google's Gemma.

## How it was made

`python -m train demo --seed {built["plan"]["seed"]}`, from `train/sample.jsonl`: our own texts, written from general knowledge on which public health bodies
agree. {built["lessons"]:,} lessons (each question in many wordings, tidy, careless and misspelt; refusals; small talk; short conversations),
{built["steps"]:,} steps, {built["tokens"]:,} tokens, {minutes:.0f} minutes on two CPU cores. One vocabulary of {built["plan"]["vocabulary"]:,} tokens,
{built["plan"]["layers"]} layers of width {built["plan"]["hidden"]}, bfloat16.

## Scores

Word-for-word equal to the expected answer, greedy decoding, from `python -m train demo --check` (all of it in metrics.json).

| on | right | share |
|---|---|---|
{table}

## What it must not be used for

Not for advice, diagnosis, treatment or doses, and not in an emergency: call your local emergency number. It recites; it does not reason, knows nothing
about you, and can give the answer to another question than yours, above all about topics it does not know. Not a base for
fine-tuning. English only.
"""
    )


def write_card(folder: Path, scores: dict[str, Any]) -> None:
    """Writes README.md into `folder`."""
    (folder / "README.md").write_text(card(scores), encoding="utf-8")
