"""The page. The only module that builds Gradio components."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from gradio.events import Dependency

from space import log
from space.chat import Assistant, Reply, caller
from space.engine import Sampling
from space.engine.provenance import Provenance
from space.errors import UNFIT, SpaceError
from space.export import DISCLAIMER, as_json, as_markdown
from space.guard.verify import LEAD, links
from space.prompt import Message
from space.settings import Settings

TITLE = "Medical question answering"
REAL_MODEL = "MODEL_ID=google/gemma-3-1b-it python app.py"
EXAMPLES = [
    "What are the symptoms of diabetes?",
    "How can high blood pressure be prevented?",
    "What is the first aid for a nosebleed?",
    "Which foods contain vitamin D?",
]
_FRAME = 0.04
"""Seconds between two updates of the page: faster than the eye, and a fast model does not wait for the browser."""
_CAREFUL = Sampling(temperature=0.0)
"""What the sliders show until the model's own values are known."""
_PLACEHOLDER = "Ask a health question…"
_GUARD = "> ⚠️ "
"""What a notice of the guard begins with: how it is told from what a model wrote, and what the style sheet makes a box of."""
_HERE = Path(__file__).parent

_WARNING_SIGN = (
    '<svg viewBox="0 0 20 20" aria-hidden="true" fill="currentColor">'
    '<path d="M10 1 19.5 18H.5Zm-1 6v5h2V7Zm0 6.5v2h2v-2Z" fill-rule="evenodd"/></svg>'
)
_BANNER = f'<div id="banner" role="note" aria-label="Disclaimer">{_WARNING_SIGN}<p>{DISCLAIMER}</p></div>'

_ABOUT = """
**For:** understanding a health topic in plain language, preparing questions for an appointment, learning.

**Not for:** emergencies, a diagnosis, choosing or dosing a medicine, deciding whether to see a doctor, or anything that is
about you in particular. Nobody with medical training reads what you type or what it answers.

**Limits:** a language model writes what sounds likely. It can be wrong, outdated or incomplete and sound just as sure. Check what
matters with a doctor or pharmacist, or at [MedlinePlus](https://medlineplus.gov), the [NHS](https://www.nhs.uk/conditions/)
or the [WHO](https://www.who.int/health-topics).

**Privacy:** what you type goes to the machine that runs this page{onward}. It is not logged and not stored there.
"""


def build(assistant: Assistant) -> gr.Blocks:
    """The page for this assistant; to be launched with `launch_options`."""

    # The names are those of Sampling's fields: /chat and MCP show them as parameters.
    def respond(
        message: str,
        history: list[dict[str, Any]],
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[Any]:
        shown, last = 0.0, Reply()
        who = caller(request, "page") if request else None
        values = (max_new_tokens, temperature, top_p, top_k, repetition_penalty, seed)
        try:
            for reply in assistant.reply(_messages(history, notices=False), message, _sampling(values), caller=who):
                begins = reply.text and not last.text  # the first word is shown at once
                if not (begins or reply.finish_reason) and time.monotonic() - shown < _FRAME:
                    continue
                shown, last = time.monotonic(), reply
                yield _answer(reply)
        except SpaceError as error:
            # Not gr.Error: it would hide the conversation and leave the question box disabled.
            yield _answer(replace(last, notice=str(error)))

    async def ask(question: str, request: gr.Request) -> str:
        """Answer a health question in plain language, with a small medical language model. Educational only: not a
        substitute for professional medical advice, and it may be wrong or outdated. It does not diagnose, prescribe or
        give doses; in an emergency call the local emergency number.

        Args:
            question: The whole question, in one message, e.g. "What are the symptoms of diabetes?"
        """
        try:
            reply = await assistant.answer([], question, None, threading.Event(), caller(request, "mcp"))
        except SpaceError as error:
            return str(error)
        messages = _answer(reply)
        return messages if isinstance(messages, str) else "\n\n".join(m["content"] or _title(m) for m in messages)

    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False) as page:
        side = gr.Sidebar(position="right", open=False, width=340, elem_id="side", label="Settings and more")
        with side:
            gr.Markdown("## Settings")
            sliders = [_slider(option) for option in fields(Sampling)]
        gr.HTML(_BANNER, elem_id="banner-row", padding=False)
        with gr.Column(elem_id="main"):
            header = gr.HTML(_header(assistant), elem_id="header")
            with gr.Accordion("What this is for, what it is not for, and its limits", open=False, elem_id="about"):
                gr.Markdown(_about(assistant.settings))
            chat = gr.ChatInterface(
                respond,
                chatbot=gr.Chatbot(
                    label="Conversation",
                    show_label=False,
                    height="100%",
                    min_height=160,
                    scale=1,
                    layout="bubble",
                    buttons=["copy"],
                    placeholder="### Ask about a health topic\nOr start with one of these:",
                    sanitize_html=True,
                    allow_tags=True,  # what is no tag of HTML is shown as it stands, and not dropped with what follows it
                    latex_delimiters=[],
                    elem_id="conversation",
                    feedback_options=None,
                    autoscroll=False,  # page.js keeps the head of an answer in view instead of its end
                ),
                textbox=gr.Textbox(
                    placeholder=_PLACEHOLDER,
                    label="Your question",
                    elem_id="question",
                    show_label=False,
                    submit_btn="Ask",
                    stop_btn="Stop",
                    autofocus=True,
                    max_lines=6,
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off", enterkeyhint="send"),
                ),
                additional_inputs=sliders,
                examples=[[example] for example in EXAMPLES],
                run_examples_on_click=False,
                cache_examples=False,
                editable=True,
                concurrency_limit=None,
                api_name="chat",
                # Gradio's MCP server cannot call an endpoint with state; `ask` takes its place there.
                api_visibility="undocumented" if assistant.settings.mcp else "public",
                show_progress="minimal",
                flagging_mode="never",
                fill_height=True,
            )
            _stop(page, chat)
        with side:
            with gr.Accordion("Conversations in this browser", open=False):
                _conversations(page, chat)
            with gr.Accordion("Export this conversation", open=False):
                _export(chat, sliders, assistant)
            with gr.Accordion("About this model", open=False):
                about = gr.Markdown(_provenance(assistant))
        # The model loads beside the server: the page asks until it is there, and then takes over the model's defaults.
        clock = gr.Timer(1.0)

        def refresh(opening: bool = False) -> list[Any]:
            """What has changed; a page that is `opening` before the model is there gets careful values until then."""
            if assistant.state == "ready":
                updates = _sliders(assistant.engine.sampling, assistant.engine.context)
            elif opening:  # the browser would make values up for empty sliders
                updates = _sliders(_CAREFUL, 2 * _CAREFUL.max_new_tokens)
            else:
                updates = [gr.skip()] * len(sliders)
            return [_header(assistant), _provenance(assistant), gr.Timer(active=assistant.state == "loading"), *updates]

        def opened() -> list[Any]:
            return refresh(opening=True)

        if assistant.settings.mcp:
            # Beside the queue: there an agent that goes away would not end its answer.
            gr.api(ask, api_name="ask", queue=False)
        for event, update in ((page.load, opened), (clock.tick, refresh)):
            event(
                update,
                None,
                [header, about, clock, *sliders],
                api_visibility="private",
                show_progress="hidden",
                queue=False,
            )
    page.process_api = _in_a_sentence(page.process_api)
    return page


def _stop(page: gr.Blocks, chat: gr.ChatInterface) -> None:
    """Makes Stop wait until it can stop something, and shows it while an edited question is answered: `ChatInterface` does so
    for what is typed and for retry only."""
    quiet = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    # What answers, after each of the three: of ChatInterface's events those with this output, and edit's is its last.
    answering = [event for event in page.fns.values() if chat.null_component in event.outputs]
    page.load(None, None, None, js=f"() => {{ stopping.watch({[event._id for event in answering]}) }}", **quiet)
    event = answering[-1]
    answered = Dependency(chat.chatbot, event.get_config(), event._id, event.fn)
    chat.chatbot.edit(lambda: gr.Textbox(submit_btn=False, stop_btn="Stop"), None, chat.textbox, **quiet)
    # Also what ChatInterface does after an answer that was not stopped.
    answered.then(
        lambda history: (history, history, gr.Textbox(submit_btn="Ask", stop_btn=False, interactive=True)),
        chat.chatbot,
        [chat.chatbot_state, chat.chatbot_value, chat.textbox],
        **quiet,
    )
    chat.textbox.stop(None, None, None, cancels=[answered], api_visibility="private")


def _in_a_sentence(process: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Gradio's way of carrying an event out, whose errors are sentences: of values that do not fit, and of our own mistakes.

    Gradio itself sends and prints what was raised, with a traceback, and both may quote what a visitor typed.
    """

    async def carried_out(*arguments: Any, **named: Any) -> Any:
        try:
            return await process(*arguments, **named)
        except gr.Error as error:  # has one, for a number out of its range
            error.print_exception = False
            raise
        except Exception as error:
            log.failure("A request failed.", error)
            raise gr.Error(UNFIT, print_exception=False) from None

    return carried_out


def launch_options() -> dict[str, Any]:
    """What `Blocks.launch` needs for this page: looks, and nothing left open or recorded."""
    return {
        "theme": gr.themes.Soft(
            primary_hue="teal",
            neutral_hue="slate",
            font=["Inter", "system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(
            button_primary_background_fill="*primary_700",
            button_primary_background_fill_dark="*primary_700",
            button_primary_background_fill_hover="*primary_800",
            button_primary_background_fill_hover_dark="*primary_600",
            block_title_background_fill="none",
            block_title_background_fill_dark="none",
            block_title_text_color="*body_text_color",
            block_title_text_color_dark="*body_text_color",
            block_title_padding="0",
            block_info_text_color="*neutral_600",
            block_info_text_color_dark="*neutral_300",
        ),
        "css_paths": [_HERE / "page.css"],
        "head": f"<script>{(_HERE / 'page.js').read_text()}</script>",
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "max_file_size": "1kb",
        "show_error": True,
        "ssr_mode": False,
        "quiet": True,
        "share": False,
    }


def _about(settings: Settings) -> str:
    onward = (
        f", and from there to {urlsplit(settings.endpoint_url).hostname}" if settings.remote else " and to nobody else"
    )
    return _ABOUT.format(onward=onward)


def _sampling(values: Sequence[Any]) -> dict[str, Any]:
    """The sliders' values, in the order of Sampling's fields, by name."""
    return dict(zip((option.name for option in fields(Sampling)), values, strict=True))


def _empty(slider: gr.Slider) -> gr.Slider:
    """The slider without a value, which means the model's own.

    That is not known while the page is built: the page gets it from `refresh`, and a program that calls /chat without
    values must not get a number of ours in its stead. Gradio's slider would be at its minimum, and refuses None; a subclass
    would do, but Gradio writes a file beside the module of each.
    """
    given = slider.preprocess
    slider.preprocess = lambda payload: None if payload is None else given(payload)
    slider.value = None
    return slider


def _slider(option: Any) -> gr.Slider | gr.Number:
    rules = option.metadata
    if option.name == "seed":
        return gr.Number(
            option.default,
            label=rules["label"],
            info=rules["help"],
            precision=0,
            minimum=rules["low"],
            maximum=rules["high"],
        )
    return _empty(gr.Slider(rules["low"], rules["high"], step=rules["step"], label=rules["label"], info=rules["help"]))


def _sliders(sampling: Sampling, context: int) -> list[Any]:
    """Updates of all sliders to these values, for a model with this context."""
    return [_slider_update(option, sampling, context) for option in fields(Sampling)]


def _slider_update(option: Any, sampling: Sampling, context: int) -> Any:
    value = getattr(sampling, option.name)
    if option.name == "max_new_tokens":
        return gr.Slider(value=value, maximum=min(option.metadata["high"], context // 2))
    return gr.update(value=value)


def _title(message: Any) -> str:
    """What marks one of the page's own notices; empty for an ordinary message."""
    return str((message.get("metadata") or {}).get("title") or "")


def _answer(reply: Reply) -> str | list[dict[str, Any]]:
    """A reply for the conversation: the guard's notice, the text and the page's own notice, each a message of its own."""
    text = reply.text
    if text and reply.finish_reason:
        text += links(reply.verify)
    if not (reply.notice or reply.verdict.notice):
        return text
    messages: list[dict[str, Any]] = []
    if reply.verdict.notice:
        messages.append({"role": "assistant", "content": _GUARD + reply.verdict.notice.replace("\n", "\n> ")})
    if text:
        messages.append({"role": "assistant", "content": text})
    if reply.notice:
        messages.append({"role": "assistant", "content": "", "metadata": {"title": reply.notice, "status": "done"}})
    return messages


def _messages(history: Sequence[Any], notices: bool) -> list[Message]:
    """The page's history as plain messages; the page's own notices as role "system", or left out, links for checking too."""
    messages: list[Message] = []
    for item in history:
        title = _title(item)
        content = item["content"]
        text = content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
        if title or text.startswith(_GUARD):
            if notices:
                messages.append({"role": "system", "content": title or text})
        else:
            messages.append({"role": item["role"], "content": text if notices else text.partition(LEAD)[0]})
    return messages


def _header(assistant: Assistant) -> str:
    return f"<h1>{TITLE}</h1><p id='model' role='status' class='{assistant.state}'>{_answering(assistant)}</p>"


def _answering(assistant: Assistant) -> str:
    try:
        provenance = assistant.engine.provenance
    except SpaceError as error:
        return escape(str(error))
    if provenance.embedded:
        return (
            f"Answering: the <strong>embedded demo model</strong>. It knows {provenance.topics} everyday topics by heart and "
            f"nothing else. For a real model: <code>{REAL_MODEL}</code>"
        )
    revision = f" at <code>{escape(provenance.revision[:12])}</code>" if provenance.revision else ""
    return f"Answering: <strong>{escape(provenance.model)}</strong>{revision}"


def _provenance(assistant: Assistant) -> str:
    try:
        p: Provenance = assistant.engine.provenance
    except SpaceError as error:
        return escape(str(error))
    rows = {
        "Model": p.model,
        "Revision": p.revision,
        "Base model": p.base,
        "Data": ", ".join(p.data),
        "Licence": p.licence,
        "Runs on": p.runs_on,
        **{f"Score: {name}": figure for name, figure in p.scores},
    }
    shown = "\n".join(f"| {name} | {escape(value).replace('|', '&#124;')} |" for name, value in rows.items() if value)
    return f"| | |\n|---|---|\n{shown}\n\nRead from the files that travel with the model."


def _export(chat: gr.ChatInterface, sliders: list[Any], assistant: Assistant) -> None:
    def file(kind: str) -> Any:
        def make(history: list[Any], *values: Any) -> dict[str, str]:
            if not history:
                gr.Warning("There is nothing to export yet; ask a question first.", title="Export")
                return {}
            write, mime = (as_markdown, "text/markdown") if kind == "md" else (as_json, "application/json")
            when = datetime.now(UTC).isoformat(timespec="seconds")
            text = write(
                _messages(history, notices=True),
                assistant.engine.provenance,
                _sampling(values),
                when,
            )
            return {"name": f"conversation-{when[:10]}.{kind}", "type": mime, "text": text}

        return make

    gr.Markdown("With the disclaimer, the model and the settings. The file is made in your browser.")
    made = gr.JSON(visible=False)
    with gr.Row():
        for label, kind in (("Markdown", "md"), ("JSON", "json")):
            gr.Button(label, size="sm").click(
                file(kind), [chat.chatbot, *sliders], made, api_visibility="private", queue=False
            ).success(None, made, None, js="(file) => { conversations.download(file) }", api_visibility="private")


def _conversations(page: gr.Blocks, chat: gr.ChatInterface) -> None:
    """Conversations kept in the visitor's own browser, by page.js; the server keeps none and sees one when it is opened."""
    gr.Markdown("Kept in this browser only, on this device, once you switch it on.")
    switch = gr.Checkbox(False, label="Keep my conversations", elem_id="keep")
    chosen = gr.Dropdown([], label="Open one again", interactive=True, elem_id="kept")
    with gr.Row():
        new = gr.Button("New conversation", size="sm")
        forget = gr.Button("Forget everything", size="sm", variant="stop")
    received = gr.JSON(visible=False)
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def show(listed: dict[str, Any]) -> tuple[Any, Any]:
        choices = [(item["title"], item["id"]) for item in listed["items"]]
        return listed["on"], gr.Dropdown(choices=choices, value=None)

    def reopen(_: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return messages

    listed = {
        "fn": show,
        "inputs": received,
        "outputs": [switch, chosen],
        "js": "() => conversations.listed()",
        "queue": False,
        **quiet,
    }
    gr.on([page.load, chosen.focus], **listed)
    chat.chatbot.change(
        None,
        chat.chatbot,
        None,
        js=f"(history) => {{ reading.changed(history); conversations.changed(history, {json.dumps(_PLACEHOLDER)}) }}",
        **quiet,
    )
    switch.input(None, [switch, chat.chatbot], None, js="(on, history) => { conversations.turn(on, history) }", **quiet)
    # Through the queue: only queued events make `chatbot_value` tell the conversation that it has changed.
    chosen.input(reopen, [chosen, received], chat.chatbot_value, js="(id) => [null, conversations.open(id)]", **quiet)
    new.click(lambda: [], None, chat.chatbot_value, **quiet)
    forget.click(lambda: [], None, chat.chatbot_value, js="() => { conversations.forget() }", **quiet).then(**listed)
