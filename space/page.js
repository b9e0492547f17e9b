// Conversations kept in the visitor's own browser, once they switch it on. Nothing here talks to the server:
// the page hands over the conversation as it changes, and asks for one to be opened again.
const conversations = {
  key: "medical-qa-conversations",
  most: 50, // conversations; the oldest go first
  current: null, // identifier of the conversation on the page
  timer: null,

  read() {
    try {
      const state = JSON.parse(localStorage.getItem(this.key));
      if (state && Array.isArray(state.items)) return state;
    } catch { /* unreadable or forbidden storage is the same as an empty one */ }
    return {on: false, items: []};
  },
  write(state) {
    try {
      localStorage.setItem(this.key, JSON.stringify(state));
    } catch {
      if (state.items.length > 1) this.write({...state, items: state.items.slice(0, -1)}); // full: forget the oldest
    }
  },
  text(message) {
    return typeof message.content === "string" ? message.content : message.content.map((part) => part.text ?? "").join("");
  },
  // Called with every change of the conversation, many times a second while an answer comes.
  changed(history, placeholder) {
    const question = document.querySelector("#question textarea");
    if (question) question.placeholder = placeholder; // ChatInterface empties it with the first question
    clearTimeout(this.timer);
    if (!history?.length) this.current = null;
    else this.timer = setTimeout(() => this.keep(history), 300);
  },
  keep(history) {
    const state = this.read();
    if (!state.on || !history?.length) return;
    this.current ??= Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
    const title = this.text(history[0]).replace(/\s+/g, " ").trim().slice(0, 60) || "Conversation";
    const messages = history.map((message) => ({role: message.role, content: this.text(message), metadata: message.metadata}));
    const others = state.items.filter((item) => item.id !== this.current);
    this.write({on: true, items: [{id: this.current, title, messages}, ...others].slice(0, this.most)});
  },
  turn(on, history) {
    this.write({...this.read(), on});
    if (on) this.keep(history);
  },
  listed() {
    const {on, items} = this.read();
    return {on, items: items.map(({id, title}) => ({id, title}))};
  },
  open(id) {
    const found = this.read().items.find((item) => item.id === id);
    if (found) this.current = id;
    return found?.messages ?? [];
  },
  forget() {
    clearTimeout(this.timer);
    this.current = null;
    localStorage.removeItem(this.key);
  },

  // Downloads text from the page itself, so that a conversation is never written to the server's disk.
  download(file) {
    if (!file?.text) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file.text], {type: file.type}));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  },
};

// The reader's place. A question rises as its answer grows and stays once it has reached the top, so that the head of an answer
// is read first; Gradio's own scrolling follows the end. Whoever scrolls is left alone until the next question.
const reading = {
  asked: 0, // questions in the conversation
  away: false, // whether the reader has scrolled since the last one

  // Called with every change of the conversation; what moves the text is its growth, which comes a moment later.
  changed(history) {
    const asked = (history ?? []).filter((message) => message.role === "user").length;
    if (asked !== this.asked || history?.at(-1)?.role === "user") this.away = false;
    this.asked = asked;
    const log = document.querySelector("#conversation [role=log]");
    const text = log?.querySelector(".message-wrap");
    if (!text || text.followed) return;
    text.followed = true;
    new ResizeObserver(() => this.place(log)).observe(text);
    if (log.followed) return;
    log.followed = true;
    for (const event of ["wheel", "touchmove", "keydown"]) log.addEventListener(event, () => { this.away = true; }, {passive: true});
    log.addEventListener("pointerdown", ({target}) => { if (target === log) this.away = true; }); // its scroll bar
  },
  place(log) {
    if (this.away) return;
    const messages = [...log.querySelectorAll("[data-testid=user], [data-testid=bot]")];
    const last = messages.findLastIndex((message) => message.dataset.testid === "user");
    if (last < 0) return;
    const top = (message) => message.getBoundingClientRect().top - log.getBoundingClientRect().top;
    const question = top(messages[last]), answer = top(messages[last + 1] ?? messages[last]);
    // Of a question that would fill the screen, the end stays in view.
    log.scrollTo({top: log.scrollTop + Math.max(question, answer - log.clientHeight / 3) - 8, behavior: "instant"});
  },
};

// Gradio shows Stop before the server has said which event answers; a Stop that is pressed earlier is lost, and the answer goes on
// unseen. page.css takes no press until <body> is "stoppable".
const stopping = {
  watch(answering) { // the numbers of Gradio's events that answer
    const now = window.fetch, body = document.body.classList;
    window.fetch = async (...request) => {
      const response = await now(...request);
      const asked = String(request[0]?.url ?? request[0]).includes("/queue/join");
      if (asked && answering.includes(JSON.parse(request[1].body).fn_index)) body.add("stoppable");
      return response;
    };
    // Whatever asks for the next answer begins with one of these.
    for (const event of ["pointerdown", "keydown"])
      document.addEventListener(event, () => { if (!document.querySelector(".stop-button")) body.remove("stoppable"); }, true);
  },
};
