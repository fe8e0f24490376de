// The chat, and what it takes to watch the tickets. An application needs less: see
// connect() for what it would keep.

import { RealtimeSocket, fetchTicket } from "django-realtime-ticket";

const byId = (id) => document.getElementById(id);
const { websocket, carrier, expire, user } = document.querySelector("main").dataset;
const LIFETIME = expire * 1000;
const AWAY = "There is no connection now. Your message is sent when it is back.";
const LOGGED_OUT = "You are logged out. Log in, and try again.";

let shown; // the Life of the ticket that the socket showed last
const socket = connect();

function connect() {
  const socket = new RealtimeSocket(websocket, {
    carrier,
    queue: 10, // what is said while there is no connection
    // Only to watch. By itself, the socket calls fetchTicket() for each attempt.
    async getTicket({ signal }) {
      shown = new Life(await fetchTicket({ signal }));
      shown.is("shown");
      return shown.ticket;
    },
  });
  socket.addEventListener("connecting", () => state("connecting"));
  socket.addEventListener("open", () => {
    shown.is("consumed");
    state("connected");
    noLongerAway("");
  });
  socket.addEventListener("message", ({ data }) => say(data));
  socket.addEventListener("close", ({ code }) => {
    if (shown && !shown.over) shown.is(code === 4401 ? "refused" : "not accepted");
  });
  socket.addEventListener("waiting", ({ delay }) => state("waiting", delay));
  socket.addEventListener("refused", () => {
    state("refused");
    noLongerAway(LOGGED_OUT);
  });
  return socket;
}

// The chat

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState === socket.CLOSED) return tell(LOGGED_OUT);
  if (socket.readyState !== socket.OPEN) tell(AWAY);
  socket.send(byId("text").value);
  byId("text").value = "";
});

function say(text) {
  const [, who, words] = /^(\w+): (.*)$/s.exec(text) ?? [];
  const line = document.createElement("p");
  if (who) {
    const name = document.createElement("b");
    name.textContent = who;
    line.append(name, words);
    line.className = who === user ? "mine" : "theirs";
  } else line.textContent = text;
  byId("log").append(line);
  byId("log").scrollTop = byId("log").scrollHeight;
}

// The state of the connection

const LABELS = {
  connecting: "connecting",
  connected: "connected",
  waiting: "waiting to connect again",
  refused: "refused",
};
let ticking;

function state(name, delay) {
  clearInterval(ticking);
  const label = byId("state");
  label.textContent = LABELS[name];
  label.parentElement.dataset.state = name;
  byId("countdown").textContent = "";
  if (name === "waiting") {
    const end = performance.now() + delay;
    const tick = () => {
      const seconds = Math.max(0, end - performance.now()) / 1000;
      byId("countdown").textContent = `, ${seconds.toFixed(1)} s`;
    };
    tick();
    ticking = setInterval(tick, 100);
  }
  if (name === "refused") {
    const link = document.createElement("a");
    link.href = "/login/?next=/";
    link.textContent = "log in";
    label.append(": ", link);
  }
}

// The tickets

/** A ticket's life, as an item of the list. */
class Life {
  constructor(ticket) {
    this.ticket = ticket;
    this.item = byId("ticket").content.firstElementChild.cloneNode(true);
    this.item.querySelector("code").textContent = `${ticket.slice(0, 7)}…`;
    byId("tickets").prepend(this.item);
    this.is("issued");
    setTimeout(() => this.over || this.is("expired"), LIFETIME);
  }

  /** Whether it cannot be used any more. */
  get over() {
    return ["consumed", "refused", "expired"].includes(this.item.dataset.state);
  }

  is(step) {
    // What a replay comes to does not change that the ticket did let its user in.
    if (this.item.dataset.state !== "consumed") this.item.dataset.state = step;
    byId("flow").dataset.step = step;
    const now = new Date();
    const time = document.createElement("time");
    time.dateTime = now.toISOString();
    time.textContent = now.toTimeString().slice(0, 8);
    const line = document.createElement("li");
    line.dataset.step = step;
    line.append(step, " ", time);
    this.item.querySelector(".life").append(line);
  }

  /** Show the ticket with a connection of its own. Say whether it got in. */
  async show() {
    this.is("shown");
    const socket =
      carrier === "query"
        ? new WebSocket(`${websocket}?ticket=${this.ticket}`)
        : new WebSocket(websocket, ["realtime-ticket.v1", `ticket.${this.ticket}`]);
    const welcome = await new Promise((resolve) => {
      socket.onmessage = () => resolve(true);
      socket.onclose = () => resolve(false); // no script is told the HTTP status
    });
    socket.close();
    this.is(welcome ? "consumed" : "refused");
    return welcome;
  }
}

// The buttons

onPress("replay", async () => {
  if (!shown?.over) return "No ticket is spent yet.";
  const welcome = await shown.show();
  return welcome ? "The spent ticket got in!" : "Refused: a ticket works once.";
});

onPress("expire", async () => {
  const life = new Life(await fetchTicket());
  tell(`A ticket is issued, and nobody shows it for ${expire} seconds…`);
  await new Promise((resolve) => setTimeout(resolve, LIFETIME + 200));
  const welcome = await life.show();
  return welcome ? "The expired ticket got in!" : "Refused: a ticket lives for seconds.";
});

onPress("drop", async () => {
  if (socket.readyState === socket.CLOSED) return LOGGED_OUT;
  if (socket.readyState !== socket.OPEN) return "There was no connection to drop.";
  socket.send("/drop");
  return "Dropped. The page comes back by itself, with a new ticket.";
});

onPress("elsewhere", async (form) => {
  await post(form);
  return "You are logged out elsewhere. This page comes back by itself.";
});

onPress("restart", async (form) => {
  await post(form);
  return "The server is restarted. The page comes back by itself, with a new ticket.";
});

/** Post the form of a button. Django answers a user who is logged out with a redirect. */
async function post(form) {
  const body = new FormData(form);
  const response = await fetch(form.action, { method: "POST", body, redirect: "manual" });
  const isRedirect = response.type === "opaqueredirect";
  if (!response.ok) throw { status: isRedirect ? 401 : response.status };
}

/** Do what a button or a form is for, once at a time, and tell the outcome. */
function onPress(id, work) {
  const element = byId(id);
  let busy = false;
  element?.addEventListener(element.tagName === "FORM" ? "submit" : "click", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    tell(await work(element).catch(explain));
    busy = false;
  });
}

/** Say why Django did not do something. The status is missing if it did not answer. */
function explain({ status }) {
  if (status === 401) return LOGGED_OUT;
  if (status === 403) return "You have logged in again since this page was loaded. Reload it.";
  return "Django does not answer. Is the demo still running?";
}

function tell(text) {
  byId("outcome").textContent = text;
}

function noLongerAway(text) {
  if (byId("outcome").textContent === AWAY) tell(text);
}
