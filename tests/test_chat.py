import threading

import pytest

from space.chat import MAX_CHARACTERS, Assistant
from space.errors import BadRequest, Busy, GenerationFailed, ModelError, NotReady, TextTooLong
from space.settings import Settings
from tests.fakes import FakeEngine, loader
from tests.serving import wait_until


def ready(engine, **settings):
    assistant = Assistant(Settings(**settings), loader(engine))
    assistant.start()
    wait_until(lambda: assistant.state != "loading")
    return assistant


def last(replies):
    return list(replies)[-1]


def test_an_answer_grows_and_ends_with_its_usage():
    replies = list(ready(FakeEngine("one two three")).reply([], "hi"))
    assert [reply.text for reply in replies] == ["one", "one two", "one two three", "one two three"]
    assert [reply.finish_reason for reply in replies] == ["", "", "", "stop"]
    assert replies[-1].completion_tokens == 3
    assert replies[-1].prompt_tokens > 3


def test_the_model_gets_the_history():
    engine = FakeEngine()
    last(ready(engine).reply([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "and then?"))
    messages, _ = engine.requests[0]
    assert [m["content"] for m in messages[1:]] == ["q", "a", "and then?"]


def test_values_replace_the_models_own_and_none_keeps_them():
    engine = FakeEngine()
    last(ready(engine).reply([], "hi", {"temperature": 0.5, "top_k": None, "max_new_tokens": 20.0}))
    _, sampling = engine.requests[0]
    assert (sampling.temperature, sampling.top_k, sampling.max_new_tokens) == (0.5, 0, 20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 3),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_k", 1.5),
        ("seed", "7"),
        ("top_k", True),
        ("max_new_tokens", 0),
        ("max_new_tokens", 1024),
        ("repetition_penalty", []),
    ],
)
def test_a_bad_value_is_refused_by_name(name, value):
    engine = FakeEngine()
    with pytest.raises(BadRequest, match=name):
        last(ready(engine).reply([], "hi", {name: value}))
    assert engine.requests == []


def test_an_empty_message_is_refused():
    with pytest.raises(BadRequest, match="empty"):
        last(ready(FakeEngine()).reply([], " \n"))


def test_an_endless_message_is_refused_before_it_is_tokenised():
    with pytest.raises(TextTooLong, match="100,001 characters"):
        last(ready(FakeEngine()).reply([], "x" * (MAX_CHARACTERS + 1)))


def test_dropped_turns_are_said():
    history = [{"role": r, "content": "w " * 150} for _ in range(3) for r in ("user", "assistant")]
    reply = last(ready(FakeEngine(context=1024)).reply(history, "hi"))
    assert reply.notice == "The 2 oldest questions and answers of this conversation no longer fit and were left out."


def test_a_cut_answer_is_said():
    reply = last(ready(FakeEngine("w " * 100)).reply([], "hi", {"max_new_tokens": 16}))
    assert reply.finish_reason == "length"
    assert "cut" in reply.notice


def test_an_answer_that_takes_too_long_is_ended():
    engine = FakeEngine("w " * 500, seconds_a_word=0.05)
    reply = last(ready(engine, generation_timeout=0.3).reply([], "hi"))
    assert reply.finish_reason == "timeout"
    assert "too long" in reply.notice
    assert engine.running == 0


def test_cancelling_ends_the_answer_and_keeps_its_beginning():
    engine, cancel = FakeEngine("w " * 500), threading.Event()
    replies = []
    for reply in ready(engine).reply([], "hi", cancel=cancel):
        replies.append(reply)
        if len(replies) == 3:
            cancel.set()
    assert len(replies) == 4
    assert replies[-1].finish_reason == "cancelled"
    assert replies[-1].text.startswith("w w w")


def test_closing_the_reply_ends_generation_and_frees_the_place():
    engine = FakeEngine("w " * 500)
    assistant = ready(engine, max_running=1, max_waiting=0)
    replies = assistant.reply([], "hi")
    next(replies)
    assert engine.running == 1
    replies.close()
    assert engine.running == 0
    assert last(assistant.reply([], "hi", {"max_new_tokens": 16})).finish_reason == "length"


def test_an_error_in_generation_is_a_sentence_and_frees_the_place():
    engine = FakeEngine(GenerationFailed("The model stopped; please try again."), "fine")
    assistant = ready(engine, max_running=1, max_waiting=0)
    with pytest.raises(GenerationFailed, match="please try again"):
        last(assistant.reply([], "hi"))
    assert last(assistant.reply([], "hi")).text == "fine"


def test_while_loading_the_reason_is_that_it_loads():
    gate = threading.Event()
    assistant = Assistant(Settings(), lambda settings: (gate.wait(10), FakeEngine())[1])
    assistant.start()
    assert assistant.state == "loading"
    with pytest.raises(NotReady, match="still being loaded"):
        last(assistant.reply([], "hi"))
    gate.set()
    wait_until(lambda: assistant.state == "ready")


def test_a_model_that_cannot_be_loaded_says_why_for_ever(caplog):
    def load(settings):
        raise ModelError("There is no model there; check MODEL_ID.")

    assistant = Assistant(Settings(zero_gpu=True), load)
    assistant.start()
    assert assistant.state == "failed"
    for _ in range(2):
        with pytest.raises(ModelError, match="check MODEL_ID"):
            last(assistant.reply([], "hi"))
    assert "check MODEL_ID" in caplog.records[0].values["what"]


def test_an_unforeseen_loading_error_still_reaches_the_page():
    def load(settings):
        raise KeyError("surprise")

    assistant = Assistant(Settings(zero_gpu=True), load)
    with pytest.raises(KeyError):
        assistant.start()
    assert assistant.state == "failed"
    with pytest.raises(ModelError, match="surprise"):
        _ = assistant.engine


def test_no_more_run_at_once_than_there_are_places_and_the_rest_wait_their_turn():
    engine = FakeEngine("a b c d e", seconds_a_word=0.02)
    assistant = ready(engine, max_running=2, max_waiting=6)
    replies = [None] * 8
    threads = [
        threading.Thread(target=lambda i=i: replies.__setitem__(i, last(assistant.reply([], f"question {i}"))))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert engine.most_running == 2
    assert {reply.text for reply in replies} == {"a b c d e"}


def test_who_waits_is_told_how_many_are_ahead_and_who_finds_no_room_is_refused():
    engine = FakeEngine("w " * 500)
    assistant = ready(engine, max_running=1, max_waiting=1)
    first, second = assistant.reply([], "one"), assistant.reply([], "two")
    next(first)
    assert "1 ahead" in next(second).notice
    with pytest.raises(Busy, match="try again"):
        next(assistant.reply([], "three"))
    first.close()
    assert next(second).text == "w"
    second.close()


def test_who_stops_waiting_leaves_the_line():
    assistant = ready(FakeEngine("w " * 500), max_running=1, max_waiting=1)
    first = assistant.reply([], "one")
    next(first)
    cancel = threading.Event()
    second = assistant.reply([], "two", cancel=cancel)
    next(second)
    cancel.set()
    assert last(second).finish_reason == "cancelled"
    third = assistant.reply([], "three")
    assert "1 ahead" in next(third).notice
