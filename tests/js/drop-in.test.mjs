/** In place of WebSocket: handlers, constants, and a class for libraries. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

import {
  RealtimeEventSource,
  RealtimeSocket,
  TicketError,
  createWebSocketClass,
} from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import {
  fakeEventSource,
  fakeFetch,
  fakeWebSocket,
  installPage,
  later,
  listen,
  no,
  ok,
  pass,
  restore,
  settle,
  stopClock,
  tickets,
} from "./fakes.mjs";

beforeEach(stopClock);
afterEach(restore);

const URL_ = "wss://rt.example/";

/** Note what the handlers hear. */
function handle(connection) {
  const heard = [];
  for (const type of ["open", "message", "error", "close"])
    connection[`on${type}`] = function (event) {
      assert.equal(this, connection);
      assert.equal(event.target, connection);
      heard.push([event.type, event.data ?? event.code]);
    };
  return heard;
}

test("onopen, onmessage, onerror and onclose are called", async () => {
  const { WebSocket, all } = fakeWebSocket();
  const socket = new RealtimeSocket(URL_, { WebSocket, getTicket: tickets() });
  for (const type of ["open", "message", "error", "close"]) assert.equal(socket[`on${type}`], null);
  const heard = handle(socket);
  await settle();
  all[0].accept();
  all[0].message("hello");
  all[0].lose();
  await pass(1000);
  all[1].accept();
  socket.onclose = null;
  all[1].lose(1012);
  assert.deepEqual(heard, [
    ["open", undefined],
    ["message", "hello"],
    ["error", undefined],
    ["close", 1006],
    ["open", undefined],
  ]);
  socket.close();
});

test("close() in onerror is told once, and is final", async () => {
  const { WebSocket, all } = fakeWebSocket();
  const getTicket = tickets();
  const socket = new RealtimeSocket(URL_, { WebSocket, getTicket });
  const events = listen(socket);
  socket.onerror = () => socket.close();
  await settle();
  all[0].accept();
  all[0].lose();
  await pass(100_000);
  assert.deepEqual(events.types(), ["connecting", "open", "close"]);
  assert.deepEqual([events.at(-1).willReconnect, getTicket.signals.length], [false, 1]);
});

test("so they are for a stream", async () => {
  const { EventSource, all } = fakeEventSource();
  const source = new RealtimeEventSource("https://x.example/", { EventSource, getTicket: tickets() });
  const heard = handle(source);
  await settle();
  all[0].accept();
  all[0].message("hello");
  all[0].lose();
  source.close();
  const types = ["open", "message", "error", "close", "close"];
  assert.deepEqual(heard.map(([type]) => type), types);
});

test("the constants are those of the standards", () => {
  const { WebSocket } = fakeWebSocket();
  const { EventSource } = fakeEventSource();
  const socket = new RealtimeSocket(URL_, { WebSocket });
  const source = new RealtimeEventSource("https://x.example/", { EventSource });
  const states = ({ CONNECTING, OPEN, CLOSING, CLOSED }) => [CONNECTING, OPEN, CLOSING, CLOSED];
  for (const each of [RealtimeSocket, socket, createWebSocketClass()])
    assert.deepEqual(states(each), [0, 1, 2, 3]);
  for (const each of [RealtimeEventSource, source])
    assert.deepEqual(states(each), [0, 1, undefined, 2]);
  socket.close();
  source.close();
  assert.deepEqual([socket.readyState, source.readyState], [3, 2]);
});

test("close is a CloseEvent where there is one", async () => {
  class CloseEvent extends Event {
    constructor(type, { code, reason, wasClean }) {
      super(type);
      for (const [name, value] of Object.entries({ code, reason, wasClean }))
        Object.defineProperty(this, name, { get: () => value });
    }
  }
  globalThis.CloseEvent = CloseEvent;
  try {
    const socket = new RealtimeSocket(URL_, { getTicket: tickets() });
    const events = listen(socket);
    socket.close(4000, "bye");
    const [event] = events;
    assert.ok(event instanceof CloseEvent);
    const { code, reason, wasClean, willReconnect } = event;
    assert.deepEqual([code, reason, wasClean, willReconnect], [4000, "bye", true, false]);
  } finally {
    delete globalThis.CloseEvent;
  }
});

test("messages of mock-socket, whose ports are null, are passed on", async () => {
  const { WebSocket, all } = fakeWebSocket();
  const socket = new RealtimeSocket(URL_, { WebSocket, getTicket: tickets() });
  const events = listen(socket);
  await settle();
  all[0].accept();
  all[0].onmessage({ type: "message", data: "hello", ports: null, origin: "", lastEventId: "" });
  assert.equal(events.last("message").data, "hello");
});

test("extensions are the transport's", async () => {
  const { WebSocket, all } = fakeWebSocket();
  const socket = new RealtimeSocket(URL_, { WebSocket, getTicket: tickets() });
  listen(socket);
  assert.equal(socket.extensions, "");
  await settle();
  all[0].extensions = "permessage-deflate";
  all[0].accept();
  assert.equal(socket.extensions, "permessage-deflate");
});

test("a URL may be a function, which is asked for every attempt", async () => {
  installPage();
  const { WebSocket, all } = fakeWebSocket();
  const answers = ["/one", Promise.resolve(new URL("https://rt.example/two"))];
  const url = () => answers.shift();
  const socket = new RealtimeSocket(url, { WebSocket, getTicket: tickets(), random: () => 1 });
  const events = listen(socket);
  assert.equal(socket.url, "");
  await settle();
  assert.equal(socket.url, "wss://site.example/one");
  all[0].lose();
  await pass(1000);
  assert.deepEqual(all.map(({ url }) => url), ["wss://site.example/one", "wss://rt.example/two"]);
  assert.equal(events.of("connecting").length, 2);
});

for (const [name, url, message] of [
  ["throws", () => { throw new Error("no host"); }, "No ticket: Error: no host"],
  ["returns no URL", () => "http://", /^No ticket: TypeError.*Invalid URL/],
])
  test(`a URL function that ${name} is asked again`, async () => {
    const getTicket = tickets();
    const socket = new RealtimeSocket(url, { getTicket, random: () => 1 });
    const events = listen(socket);
    await settle();
    const { error } = events.last("ticketerror");
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    await pass(1000);
    assert.equal(events.of("ticketerror").length, 2);
    assert.equal(getTicket.signals.length, 0);
  });

test("a URL function that never answers is given up", async () => {
  const socket = new RealtimeSocket(() => later().promise, { getTicket: tickets() });
  const events = listen(socket);
  await pass(5000);
  assert.deepEqual(events.types(), ["connecting", "ticketerror", "waiting"]);
});

test("what getTicket() throws is shown", async () => {
  const getTicket = () => Promise.reject(new RangeError("out of tickets"));
  const events = listen(new RealtimeSocket(URL_, { getTicket }));
  await settle();
  assert.equal(events.last("ticketerror").error.message, "No ticket: RangeError: out of tickets");
});

for (const ticket of [undefined, null, { message: "rt_1" }])
  test(`getTicket() that returns ${JSON.stringify(ticket)} is told so`, async () => {
    const { WebSocket, all } = fakeWebSocket();
    const events = listen(new RealtimeSocket(URL_, { WebSocket, getTicket: async () => ticket }));
    await settle();
    assert.match(events.last("ticketerror").error.message, /getTicket\(\) returned none/);
    assert.equal(all.length, 0);
  });

// For libraries that reconnect by themselves

/** A class of sockets, and how to make one of them. */
function makeClass(options = {}) {
  const { WebSocket, all } = fakeWebSocket();
  const getTicket = options.fetch ? undefined : tickets();
  const Class = createWebSocketClass({ WebSocket, getTicket, random: () => 1, ...options });
  const make = (...words) => {
    const socket = new Class(URL_, ...words);
    const events = listen(socket);
    return { socket, events };
  };
  return { Class, all, getTicket, make };
}

test("takes protocols as WebSocket does, or from the options", async () => {
  const { Class, all, make } = makeClass({ protocols: ["mine"] });
  assert.ok(Class.prototype instanceof RealtimeSocket);
  make();
  make("one");
  make(["one", "two"]);
  await settle();
  const offered = all.map(({ protocols }) => protocols.slice(1, -1));
  assert.deepEqual(offered, [["mine"], ["one"], ["one", "two"]]);
});

for (const code of [1000, 1001, 1006, 1012, 4403, 4500])
  test(`closes for good on ${code}`, async () => {
    const { all, make, getTicket } = makeClass();
    const { socket, events } = make();
    await settle();
    all[0].accept();
    all[0].lose(code, "why");
    await pass(100_000);
    const { code: told, reason, willReconnect } = events.last("close");
    assert.deepEqual([told, reason, willReconnect], [code, "why", false]);
    assert.deepEqual([socket.readyState, getTicket.signals.length], [3, 1]);
  });

test("4401 becomes 1012, because a new ticket helps", async () => {
  const { all, make } = makeClass();
  const { events } = make();
  await settle();
  all[0].accept();
  all[0].lose(4401, "expired kind=age");
  const { code, reason, wasClean } = events.last("close");
  assert.deepEqual([code, reason, wasClean], [1012, "expired kind=age", false]);
  assert.equal(events.of("refused").length, 0);
});

test("no ticket this time is a loss", async () => {
  const { make } = makeClass({ fetch: fakeFetch(no(503, { "Retry-After": "2" }), () => ok("rt_1")) });
  const { socket, events } = make();
  await settle();
  assert.deepEqual(events.types(), ["connecting", "close"]);
  assert.deepEqual([events.last("close").code, socket.readyState], [1006, 3]);
});

test("Retry-After binds the next socket, too", async () => {
  const fetch = fakeFetch(no(503, { "Retry-After": "20" }), () => ok("rt_1"));
  const { make, all } = makeClass({ fetch, random: () => 0 });
  make();
  await settle();
  make();
  await pass(19_999);
  assert.equal(fetch.requests.length, 1);
  await pass(1);
  assert.deepEqual([fetch.requests.length, all.length], [2, 1]);
});

test("a refusal by Django is 4401, which is final to libraries", async () => {
  const { make } = makeClass({ fetch: fakeFetch(no(401)) });
  const { events } = make();
  await settle();
  assert.deepEqual(events.types(), ["connecting", "close", "refused"]);
  const { code, reason, wasClean } = events.last("close");
  assert.deepEqual([code, reason, wasClean], [4401, "No ticket: HTTP 401", false]);
  assert.equal(events.last("refused").error.status, 401);
});

test("after 4401, retry= binds the next socket, and a 401 is looked at twice", async () => {
  const fetch = fakeFetch(ok("rt_1"), no(401), no(401));
  const { make, all } = makeClass({ fetch, random: () => 0 });
  make();
  await settle();
  all[0].accept();
  all[0].lose(4401, "disconnected kind=user retry=20.0");
  const { events } = make();
  await pass(19_999);
  assert.deepEqual([fetch.requests.length, events.types()], [1, []]);
  await pass(1);
  assert.deepEqual(events.types(), ["connecting", "ticketerror", "waiting"]);
  await pass(3000);
  assert.equal(fetch.requests.length, 3);
  assert.deepEqual([events.last("close").code, events.at(-1).type], [4401, "refused"]);
});

test("leaving the page is a loss: the library comes back by itself", async () => {
  const page = installPage();
  const { make, all } = makeClass();
  const { events } = make();
  await settle();
  all[0].accept();
  page.fire("pagehide");
  page.fire("pageshow");
  await pass(100_000);
  assert.deepEqual([all.length, events.last("close").code], [1, 1006]);
});

test("403 that is not ours ends it at the eighth socket", async () => {
  const fetch = fakeFetch(() => new Response("<h1>Forbidden</h1>", { status: 403 }));
  const { make } = makeClass({ fetch, csrfToken: "x" });
  const codes = [];
  for (let n = 0; n < 8; n++) {
    const { events } = make();
    await pass(60_000);
    codes.push(events.last("close").code);
  }
  assert.deepEqual(codes, [...Array(7).fill(1006), 4401]);
});

test("without EventTarget, as in React Native, importing it says so", () => {
  const module = fileURLToPath(
    new URL("../../realtime_ticket/static/realtime_ticket/realtime-ticket.js", import.meta.url),
  );
  for (const name of ["EventTarget", "Event", "MessageEvent", "DOMException"]) {
    const code = `delete globalThis.${name}; await import(${JSON.stringify(module)});`;
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code]);
    assert.equal(status, 1);
    assert.match(String(stderr), new RegExp(`Error: realtime-ticket.js needs a polyfill of ${name}\\.`));
  }
});
