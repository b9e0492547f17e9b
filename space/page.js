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
