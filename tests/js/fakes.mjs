/** A page, a network and a clock for the tests of the client. */

import { mock } from "node:test";

import { RealtimeSocket } from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";

/** Let everything that is due now happen. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Let time pass. */
export async function pass(ms) {
  await settle();
  mock.timers.tick(ms);
  await settle();
}

/** Stop the clock, at 0. */
export function stopClock() {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
  mock.method(performance, "now", () => Date.now());
}

const GLOBALS = ["document", "navigator", "location", "origin", "addEventListener", "fetch"];
const originals = GLOBALS.map((name) => [
  name,
  Object.getOwnPropertyDescriptor(globalThis, name),
]);

function define(name, value) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

const connections = [];

/** Undo all that the functions of this file did, and end what they listened to. */
export function restore() {
  for (const connection of connections.splice(0)) connection.close();
  mock.timers.reset();
  mock.restoreAll();
  for (const [name, descriptor] of originals) {
    delete globalThis[name];
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
}

/** Be a page. Return what drives it. */
export function installPage({ cookie = "", field = null, baseURI = "https://site.example/chat/" } = {}) {
  const target = new EventTarget();
  const listeners = new Set();
  const page = {
    document: {
      baseURI,
      cookie,
      visibilityState: "visible",
      querySelector: (selector) =>
        selector === "[name=csrfmiddlewaretoken]" ? field : null,
    },
    navigator: { onLine: true },
    listeners,
    fire: (type, properties = {}) =>
      target.dispatchEvent(Object.assign(new Event(type), properties)),
  };
  define("document", page.document);
  define("navigator", page.navigator);
  define("origin", new URL(baseURI).origin);
  define("addEventListener", (type, listener, options) => {
    target.addEventListener(type, listener, options);
    listeners.add(type);
    options.signal.addEventListener("abort", () => listeners.delete(type));
  });
  return page;
}

/** Be Django. Each answer serves one request, the last one all that follow. */
export function fakeFetch(...answers) {
  const requests = [];
  const fetch = async (url, init) => {
    requests.push({ url, ...init });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    return typeof answer === "function" ? answer(init) : answer;
  };
  return Object.assign(fetch, { requests });
}

export const json = (data, init = {}) => new Response(JSON.stringify(data), init);
export const ok = (ticket) => json({ status: "ok", message: ticket, expires_in: 10 });
export const no = (status, headers = {}) =>
  json({ status: "error", message: "No." }, { status, headers });

/** Answer once the test says so, whatever the signal does. */
export function later() {
  const answer = {};
  answer.promise = new Promise((...functions) => {
    [answer.resolve, answer.reject] = functions;
  });
  return answer;
}

/** A stream of distinct tickets. */
export function tickets() {
  const signals = [];
  const getTicket = async ({ signal }) => {
    signals.push(signal);
    return `rt_${signals.length}`;
  };
  return Object.assign(getTicket, { signals });
}

class Transport extends EventTarget {
  readyState = 0;
  closed = [];

  close(...args) {
    this.closed.push(args);
    if (this.readyState < 2) this.readyState = 2;
  }

  /** Fire an event, also one that comes too late. */
  fire(event) {
    this[`on${event.type}`]?.(event);
    this.dispatchEvent(event);
  }

  accept(protocol = "") {
    this.protocol = protocol;
    this.readyState = 1;
    this.fire(new Event("open"));
  }

  message(data, { type = "message", ...init } = {}) {
    this.fire(new MessageEvent(type, { data, ...init }));
  }
}

/** A WebSocket class, and all its instances, oldest first. */
export function fakeWebSocket() {
  const all = [];
  class WebSocket extends Transport {
    sent = [];
    bufferedAmount = 0;

    constructor(url, protocols) {
      super();
      Object.assign(this, { url, protocols });
      all.push(this);
    }

    close(code, reason) {
      if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999))
        throw new DOMException("no such code", "InvalidAccessError");
      super.close(code, reason);
    }

    send(data) {
      this.sent.push(data);
    }

    lose(code = 1006, reason = "") {
      this.readyState = 3;
      const wasClean = code !== 1006;
      this.fire(Object.assign(new Event("close"), { code, reason, wasClean }));
    }
  }
  return { WebSocket, all };
}

/** An EventSource class, and all its instances, oldest first. */
export function fakeEventSource() {
  const all = [];
  class EventSource extends Transport {
    constructor(url, init) {
      super();
      Object.assign(this, { url, init });
      all.push(this);
    }

    lose(readyState = 0) {
      this.readyState = readyState;
      this.fire(new Event("error"));
    }
  }
  return { EventSource, all };
}

const TYPES = ["connecting", "open", "message", "close", "ticketerror", "waiting", "refused"];

/** Note the events of a connection from now on. */
export function listen(connection) {
  connections.push(connection);
  const events = [];
  for (const type of TYPES) connection.addEventListener(type, (event) => events.push(event));
  return Object.assign(events, {
    types: () => events.map((event) => event.type),
    of: (type) => events.filter((event) => event.type === type),
    last: (type) => events.findLast((event) => event.type === type),
  });
}

/** A socket with a fake network, and no chance: the delays are the longest. */
export function makeSocket(options = {}, url = "wss://rt.example/") {
  const { WebSocket, all } = fakeWebSocket();
  const getTicket = options.fetch ? undefined : tickets();
  const random = () => 1;
  const socket = new RealtimeSocket(url, { WebSocket, getTicket, random, ...options });
  return { socket, all, getTicket, events: listen(socket) };
}
