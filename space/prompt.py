"""What the model is told: the system prompt, the shape of a conversation, and how much of it fits.

The one owner of the words and the message shape, for training, evaluation and serving alike. The token
format is the tokenizer's chat template, which travels with the model. Standard library only.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

from space.errors import TextTooLong

SYSTEM_PROMPT = (
    "You are a health information assistant. Explain in plain language, for a general reader. "
    "You are not a doctor: do not diagnose, prescribe or give doses. "
    "If the message may describe an emergency, first say to call the local emergency number. "
    "If you do not know, say so."
)


class Message(TypedDict):
    """One turn's half, in the shape every chat template takes."""

    role: Literal["system", "user", "assistant"]
    content: str


# Control tokens of Gemma (named, and <unused0> to <unused6241>), and the forms other model families use.
_CONTROL_TOKEN = re.compile(
    r"<(?=(?:pad|eos|bos|unk|mask|2mass|s|/s|unused\d+|(?:start|end)_of_(?:turn|image)|image_soft_token)>|\|)"
    r"|\[(?=(?:multimodal|/?INST|@BOS@)\])",
    re.IGNORECASE,
)
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def neutralise(text: str) -> str:
    """Text that cannot forge a turn: a space goes into every control token, a lone surrogate becomes U+FFFD.

    The words stay readable (`<end_of_turn>` becomes `< end_of_turn>`) while no tokenizer takes them for the
    control token any more. Idempotent.
    """
    text = _LONE_SURROGATE.sub("\ufffd", text)
    return _CONTROL_TOKEN.sub(lambda match: match.group() + " ", text)


def conversation(history: Sequence[Message], question: str) -> list[Message]:
    """The system prompt, the earlier turns and the question, strictly alternating and neutralised.

    A history may hold two user messages in a row (an answer was stopped before its first word) or begin with
    an assistant's; templates refuse both. A question that got no answer is dropped, as is a leading answer.
    """
    messages: list[Message] = [{"role": "system", "content": SYSTEM_PROMPT}]
    for message in [*history, Message(role="user", content=question)]:
        text = neutralise(message["content"])
        if message["role"] == "user":
            if messages[-1]["role"] == "user":
                messages.pop()
            messages.append({"role": "user", "content": text})
        elif message["role"] == "assistant" and messages[-1]["role"] == "user" and text.strip():
            messages.append({"role": "assistant", "content": text})
    return messages


def fit(messages: list[Message], limit: int, count: Callable[[list[Message]], int]) -> tuple[list[Message], int]:
    """The messages cut to `limit` tokens by leaving out the oldest whole turns, and how many were left out.

    `messages` is what `conversation` returns; `count` gives the number of prompt tokens of such a list.
    The system prompt and the question always stay: where they alone exceed the limit, `TextTooLong` says by
    how much. The count is found by bisection, so that a long history costs few tokenisations.
    """
    turns = (len(messages) - 2) // 2

    def without(dropped: int) -> list[Message]:
        return [messages[0], *messages[1 + 2 * dropped :]]

    if count(messages) <= limit:
        return messages, 0
    tokens = count(without(turns))
    if tokens > limit:
        raise TextTooLong(
            f"Your message is too long: with the instructions it has {tokens:,} tokens and at most {limit:,} fit; "
            "please shorten it or ask in parts."
        )
    low, high = 0, turns  # `low` dropped turns are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(without(middle)) <= limit else (middle, high)
    return without(high), high
