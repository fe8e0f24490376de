/** RealtimeSocket, and the life that it shares with RealtimeEventSource. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import {
  RealtimeSocket,
  TicketError,
} from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import {
  fakeFetch,
  fakeWebSocket,
  installPage,
  later,
  listen,
  makeSocket,
  no,
  ok,
  pass,
  restore,
  settle,
  stopClock,
} from "./fakes.mjs";

const REFUSED = new TicketError("No.", { permanent: true });

beforeEach(stopClock);
afterEach(restore);

/** One that is open. */
async function makeOpen(options) {
  const made = makeSocket(options);
  await settle();
  made.all[0].accept("realtime-ticket.v1");
  return made;
}

/** The ticket that a transport was opened with. */
const ticketOf = (transport) => transport.protocols.at(-1);
const delays = (events) => events.of("waiting").map((event) => event.delay);

test("importing it does nothing", async () => {
  const page = installPage();
  await import("../../realtime_ticket/static/realtime_ticket/realtime-ticket.js?again");
  assert.deepEqual([...page.listeners], []);
});

test("connects by itself, and tells", async () => {
  const { socket, all, events } = makeSocket();
  assert.equal(socket.readyState, 0);
  await settle();
  assert.equal(socket.readyState, 0);
  assert.equal(all.length, 1);
  all[0].accept("realtime-ticket.v1");
  assert.equal(socket.readyState, 1);
  assert.equal(socket.protocol, "realtime-ticket.v1");
  assert.deepEqual(events.types(), ["connecting", "open"]);
  assert.equal(events[0].attempt, 1);
});

test("needs no page, and leaves no timer that matters", async () => {
  assert.equal(globalThis.document, undefined);
  const { all } = await makeOpen();
  await pass(100_000);
  assert.equal(all.length, 1);
});

test("offers the ticket as a subprotocol, after the application's", async () => {
  const { all } = makeSocket({ protocols: ["chat.v2", "chat.v1"] });
  await settle();
  assert.deepEqual(all[0].protocols, ["realtime-ticket.v1", "chat.v2", "chat.v1", "ticket.rt_1"]);
  assert.equal(all[0].url, "wss://rt.example/");
});

test("or puts it into the query", async () => {
  const getTicket = async () => "a&b=c";
  const url = "wss://rt.example/?room=a%20b&ticket=old#top";
  const { socket, all } = makeSocket({ carrier: "query", protocols: ["chat"], getTicket }, url);
  await settle();
  assert.deepEqual(all[0].protocols, ["chat"]);
  assert.equal(all[0].url, "wss://rt.example/?room=a+b&ticket=a%26b%3Dc");
  assert.equal(socket.url, "wss://rt.example/?room=a%20b&ticket=old");
});

test("under another name", async () => {
  const { all } = makeSocket({ carrier: "query", param: "t" });
  await settle();
  assert.equal(all[0].url, "wss://rt.example/?t=rt_1");
});

for (const [url, absolute] of [
  ["/ws?a=b#c", "wss://site.example/ws?a=b"],
  ["ws", "wss://site.example/chat/ws"],
  ["//rt.example/", "wss://rt.example/"],
  ["http://localhost:8001", "ws://localhost:8001/"],
  ["https://rt.example:444/http", "wss://rt.example:444/http"],
  ["ws://rt.example/", "ws://rt.example/"],
  [new URL("https://rt.example/"), "wss://rt.example/"],
])
  test(`${url} is ${absolute}`, async () => {
    installPage();
    const { socket, all } = makeSocket({}, url);
    assert.equal(socket.url, absolute);
    await settle();
    assert.equal(all[0].url, absolute);
  });

test("a relative URL in a worker", () => {
  Object.defineProperty(globalThis, "location", {
    value: { href: "http://site.example/js/worker.js" },
    configurable: true,
  });
  assert.equal(makeSocket({}, "ws").socket.url, "ws://site.example/js/ws");
});

test("no URL at all is an error of the caller", () => {
  assert.throws(() => makeSocket({}, "/ws"), TypeError);
});

test("uses the browser's WebSocket and fetchTicket() by default", async () => {
  const { WebSocket, all } = fakeWebSocket();
  globalThis.WebSocket = WebSocket;
  globalThis.fetch = fakeFetch(ok("rt_1"));
  const socket = new RealtimeSocket("wss://rt.example/");
  await settle();
  delete globalThis.WebSocket;
  assert.equal(ticketOf(all[0]), "ticket.rt_1");
  assert.equal(globalThis.fetch.requests[0].url, "/ticket/");
  socket.close();
});

test("hands fetchTicket() its options", async () => {
  const fetch = fakeFetch(() => later().promise);
  const { events } = makeSocket({
    fetch,
    ticketUrl: "/t/",
    csrfToken: "secret",
    audience: "chat",
    timeout: 70,
  });
  await settle();
  const [{ url, headers, body }] = fetch.requests;
  assert.deepEqual([url, headers["X-CSRFToken"], String(body)], ["/t/", "secret", "audience=chat"]);
  await pass(70);
  assert.equal(events.last("ticketerror").error.status, 0);
});

test("messages are the server's MessageEvents", async () => {
  const { all, events } = await makeOpen();
  all[0].message("hello", { origin: "wss://rt.example", lastEventId: "7" });
  const message = events.last("message");
  assert.ok(message instanceof MessageEvent);
  const { data, origin, lastEventId } = message;
  assert.deepEqual([data, origin, lastEventId], ["hello", "wss://rt.example", "7"]);
});

test("every attempt has a ticket of its own", async () => {
  const { all, events } = await makeOpen();
  for (let n = 0; n < 5; n++) {
    all.at(-1).lose();
    await pass(20_000);
  }
  assert.deepEqual(
    all.map(ticketOf),
    [1, 2, 3, 4, 5, 6].map((n) => `ticket.rt_${n}`),
  );
  assert.deepEqual(
    events.of("connecting").map((event) => event.attempt),
    [1, 2, 3, 4, 5, 6],
  );
});

test("a lost connection says what happened, then waits, then connects", async () => {
  const { socket, all, events } = await makeOpen();
  events.length = 0;
  all[0].lose(1012, "restart");
  assert.equal(socket.readyState, 0);
  assert.equal(socket.protocol, "");
  const [{ code, reason, wasClean, willReconnect }, { delay, attempt }] = events;
  assert.deepEqual(
    { code, reason, wasClean, willReconnect },
    { code: 1012, reason: "restart", wasClean: true, willReconnect: true },
  );
  assert.deepEqual({ delay, attempt }, { delay: 1000, attempt: 2 });
  await pass(999);
  assert.equal(all.length, 1);
  await pass(1);
  assert.equal(all.length, 2);
  assert.deepEqual(events.types(), ["close", "waiting", "connecting"]);
});

for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 3000, 4000, 4401, 4402, 4404, 4499, 5000])
  test(`goes on after ${code}`, async () => {
    const { all, events } = await makeOpen();
    all[0].lose(code);
    await pass(20_000);
    assert.equal(all.length, 2);
    assert.equal(events.last("close").willReconnect, true);
    assert.equal(events.of("refused").length, 0);
  });

for (const code of [1000, 4403, 4500, 4700, 4999])
  test(`stops after ${code}`, async () => {
    const { socket, all, getTicket, events } = await makeOpen();
    socket.addEventListener("close", () => assert.equal(socket.readyState, 3));
    events.length = 0;
    all[0].lose(code, "bye");
    await pass(100_000);
    assert.equal(getTicket.signals.length, 1);
    assert.equal(events[0].willReconnect, false);
    assert.equal(socket.readyState, 3);
    assert.deepEqual(events.types(), code === 1000 ? ["close"] : ["close", "refused"]);
    if (code !== 1000) {
      const { error } = events[1];
      assert.ok(error instanceof TicketError);
      assert.deepEqual([error.status, error.permanent, error.cause], [0, true, events[0]]);
    }
  });

test("reconnect() decides instead", async () => {
  const codes = [];
  const reconnect = (event) => codes.push(event.code) < 3;
  const { all, events } = await makeOpen({ reconnect });
  for (const code of [1000, 4403, 1006]) {
    all.at(-1).lose(code);
    await pass(20_000);
  }
  assert.deepEqual(codes, [1000, 4403, 1006]);
  assert.equal(all.length, 3);
  assert.deepEqual(
    events.of("close").map((event) => event.willReconnect),
    [true, true, false],
  );
  assert.equal(events.of("refused").length, 0);
});

test("a permanent ticket error ends it", async () => {
  const { socket, all, events } = makeSocket({ getTicket: () => Promise.reject(REFUSED) });
  await pass(100_000);
  assert.deepEqual(events.types(), ["connecting", "refused"]);
  assert.equal(events[1].error, REFUSED);
  assert.deepEqual([socket.readyState, all.length], [3, 0]);
});

test("so does 401 from Django", async () => {
  const fetch = fakeFetch(() => no(401));
  const { events } = makeSocket({ fetch });
  await pass(100_000);
  assert.equal(fetch.requests.length, 1);
  assert.equal(events.last("refused").error.status, 401);
});

test("another ticket error does not", async () => {
  const cause = new Error("hm");
  const answers = [() => Promise.reject(cause), () => { throw cause; }, async () => "rt_1"];
  const { all, events } = makeSocket({ getTicket: () => answers.shift()() });
  await pass(1000);
  await pass(1500);
  assert.equal(ticketOf(all[0]), "ticket.rt_1");
  const failed = ["connecting", "ticketerror", "waiting"];
  assert.deepEqual(events.types(), [...failed, ...failed, "connecting"]);
  for (const { error } of events.of("ticketerror")) {
    assert.ok(error instanceof TicketError);
    assert.deepEqual([error.permanent, error.cause], [false, cause]);
  }
});

test("a getTicket() that never answers is given up", async () => {
  let signal;
  const getTicket = (its) => {
    signal = its.signal;
    return later().promise;
  };
  const { events } = makeSocket({ getTicket });
  await pass(5000);
  assert.equal(signal.aborted, true);
  assert.deepEqual(events.types(), ["connecting", "ticketerror", "waiting"]);
});

test("a browser that opens no such connection ends it, without quoting the ticket", async () => {
  class WebSocket {
    constructor(url, protocols) {
      throw new DOMException(`bad ${protocols}`, "SyntaxError");
    }
  }
  const { events, getTicket } = makeSocket({ WebSocket });
  await pass(100_000);
  assert.equal(getTicket.signals.length, 1);
  const { error } = events.last("refused");
  assert.equal(error.permanent, true);
  assert.ok(!`${error}${error.stack}${error.cause}`.includes("rt_1"));
});

test("delays grow, up to the longest", async () => {
  const { all, events } = makeSocket();
  await settle();
  for (let n = 0; n < 8; n++) {
    all.at(-1).lose();
    await pass(20_000);
  }
  assert.deepEqual(delays(events), [1000, 1500, 2500, 4500, 8500, 16_500, 20_000, 20_000]);
});

test("delays have a floor", async () => {
  const { all, events } = makeSocket({ random: () => 0, minDelay: 300, maxDelay: 5000 });
  await settle();
  for (let n = 0; n < 8; n++) {
    all.at(-1).lose();
    await pass(300);
  }
  assert.deepEqual(delays(events), Array(8).fill(300));
});

test("delays stay finite after any number of failures", async () => {
  const { events } = makeSocket({ minDelay: 1, maxDelay: 2, getTicket: async () => { throw 0; } });
  for (let n = 0; n < 1100; n++) await pass(2);
  assert.deepEqual([...new Set(delays(events))], [2]);
  assert.equal(delays(events).length, 1101);
});

test("delays differ by chance", async () => {
  const { events } = makeSocket({ random: undefined, getTicket: async () => { throw 0; } });
  for (let n = 0; n < 20; n++) await pass(20_000);
  assert.ok(new Set(delays(events)).size > 15);
});

test("a server that accepts and hangs up is asked less and less", async () => {
  const { all, events } = makeSocket();
  for (let n = 0; n < 4; n++) {
    await settle();
    all.at(-1).accept();
    await pass(4999);
    all.at(-1).lose();
    await pass(20_000);
  }
  assert.deepEqual(delays(events), [1000, 1500, 2500, 4500]);
});

test("a stable connection makes the next loss a first one", async () => {
  const { all, events } = makeSocket();
  await settle();
  all[0].lose();
  await pass(20_000);
  all[1].lose();
  await pass(20_000);
  all[2].accept();
  await pass(5000);
  all[2].lose();
  assert.deepEqual(delays(events), [1000, 1500, 1000]);
  assert.equal(events.last("waiting").attempt, 2);
});

test("what is stable can be told", async () => {
  const { all, events } = makeSocket({ stableAfter: 10 });
  for (let n = 0; n < 3; n++) {
    await settle();
    all.at(-1).accept();
    await pass(10);
    all.at(-1).lose();
    await pass(1000);
  }
  assert.deepEqual(delays(events), [1000, 1000, 1000]);
});

for (const random of [0, 0.5, 1])
  test(`Retry-After is a floor under the delay, with jitter on top (${random})`, async () => {
    const fetch = fakeFetch(no(503, { "Retry-After": "30" }), () => ok("rt_1"));
    const { all, events } = makeSocket({ fetch, random: () => random });
    const delay = 30_500 + 500 * random;
    await settle();
    assert.deepEqual(delays(events), [delay]);
    assert.equal(events.last("ticketerror").error.retryAfter, 30_000);
    await pass(delay - 1);
    assert.equal(fetch.requests.length, 1);
    await pass(1);
    assert.equal(all.length, 1);
  });

test("an absurd Retry-After does not overflow into a storm", async () => {
  const fetch = fakeFetch(() => no(503, { "Retry-After": "99999999999" }));
  makeSocket({ fetch });
  await pass(2 ** 31 - 2); // setTimeout() fires at once after more
  assert.equal(fetch.requests.length, 1);
});

test("a socket that neither opens nor fails is given up", async () => {
  const { all, events } = makeSocket({ connectTimeout: 3000 });
  await settle();
  await pass(2999);
  assert.deepEqual(events.types(), ["connecting"]);
  await pass(1);
  assert.equal(all[0].closed.length, 1);
  const { code, reason, wasClean, willReconnect } = events[1];
  assert.deepEqual([code, reason, wasClean, willReconnect], [1006, "timeout", false, true]);
  all[0].accept();
  all[0].lose();
  await pass(1000);
  assert.deepEqual(events.types(), ["connecting", "close", "waiting", "connecting"]);
});

test("the time for that is 10 seconds, and ends with the opening", async () => {
  const { all, events } = await makeOpen();
  await pass(60_000);
  assert.equal(events.of("close").length, 0);
  all[0].lose();
  await pass(1000);
  await pass(9999);
  assert.equal(events.of("close").length, 1);
  await pass(1);
  assert.equal(events.of("close").length, 2);
});

test("nothing of a superseded attempt is heard", async () => {
  const { socket, all, events } = makeSocket({ queue: 1, connectTimeout: 1000 });
  await pass(0);
  await pass(1000);
  await pass(1000);
  assert.equal(all.length, 2);
  socket.send("for the second");
  events.length = 0;
  all[0].accept();
  all[0].message("late");
  all[0].lose(4403);
  assert.deepEqual(events.types(), []);
  assert.deepEqual(all[0].sent, []);
  assert.equal(socket.readyState, 0);
  all[1].accept();
  assert.deepEqual(all[1].sent, ["for the second"]);
});

test("close() is final", async () => {
  const { socket, all, getTicket, events } = await makeOpen();
  events.length = 0;
  socket.close();
  assert.deepEqual(all[0].closed, [[1000, ""]]);
  assert.equal(socket.readyState, 3);
  const [{ code, reason, wasClean, willReconnect }] = events;
  assert.deepEqual([code, reason, wasClean, willReconnect], [1000, "", true, false]);
  socket.close();
  all[0].message("late");
  all[0].lose(4403);
  await pass(100_000);
  assert.deepEqual(events.types(), ["close"]);
  assert.equal(getTicket.signals.length, 1);
});

test("close() passes on its code and reason, as WebSocket does", async () => {
  const { socket, all, events } = await makeOpen();
  assert.throws(() => socket.close(4), { name: "InvalidAccessError" });
  assert.equal(socket.readyState, 1);
  all[0].message("still there");
  assert.equal(events.at(-1).data, "still there");
  socket.close(4000, "bye");
  assert.deepEqual(all[0].closed, [[4000, "bye"]]);
  assert.deepEqual([events.at(-1).code, events.at(-1).reason], [4000, "bye"]);
});

test("close() at once asks for nothing", async () => {
  const { socket, getTicket, events } = makeSocket();
  socket.close();
  await pass(100_000);
  assert.deepEqual(events.types(), ["close"]);
  assert.equal(getTicket.signals.length, 0);
});

test("close() while `connecting` is told asks for nothing", async () => {
  const { socket, getTicket, all } = makeSocket();
  socket.addEventListener("connecting", () => socket.close());
  await pass(100_000);
  assert.deepEqual([getTicket.signals.length, all.length], [0, 0]);
});

test("close() while `connecting` is told leaves a first ticket alone, too", async () => {
  const { socket, all } = makeSocket({ firstTicket: "rt_first" });
  socket.addEventListener("connecting", () => socket.close());
  await pass(100_000);
  assert.equal(all.length, 0);
});

test("close() stops a request, and a late ticket is not used", async () => {
  const answer = later();
  let signal;
  const getTicket = (its) => {
    signal = its.signal;
    return answer.promise;
  };
  const { socket, all, events } = makeSocket({ getTicket });
  await settle();
  socket.close();
  assert.equal(signal.aborted, true);
  answer.resolve("rt_late");
  await pass(100_000);
  assert.equal(all.length, 0);
  assert.deepEqual(events.types(), ["connecting", "close"]);
});

test("close() right before the ticket is there does not use it either", async () => {
  const answer = later();
  const { socket, all } = makeSocket({ getTicket: () => answer.promise });
  await settle();
  answer.resolve("rt_1");
  await answer.promise;
  socket.close();
  await pass(100_000);
  assert.equal(all.length, 0);
});

test("after close() a late refusal is not told", async () => {
  const answer = later();
  const { socket, events } = makeSocket({ getTicket: () => answer.promise });
  await settle();
  socket.close();
  answer.reject(REFUSED);
  await pass(100_000);
  assert.deepEqual(events.types(), ["connecting", "close"]);
});

test("close() aborts Django's request", async () => {
  const fetch = fakeFetch(() => later().promise);
  const { socket } = makeSocket({ fetch });
  await settle();
  socket.close();
  assert.equal(fetch.requests[0].signal.aborted, true);
});

for (const type of ["close", "waiting", "ticketerror"])
  test(`close() while \`${type}\` is told is final`, async () => {
    let count = 0;
    const getTicket = async () => {
      if (++count > 1) throw new Error("down");
      return "rt_1";
    };
    const { socket, all, events } = await makeOpen({ getTicket });
    socket.addEventListener(type, () => socket.close());
    all[0].lose();
    await pass(1000);
    const length = events.length;
    const asked = count;
    await pass(100_000);
    assert.equal(events.length, length);
    assert.equal(count, asked);
    assert.equal(events.at(-1).type === "close" || type === "close", true);
    assert.equal(socket.readyState, 3);
  });

test("close() while waiting is final", async () => {
  const { socket, all, getTicket } = await makeOpen();
  all[0].lose();
  socket.close();
  await pass(100_000);
  assert.equal(getTicket.signals.length, 1);
});

test("close() in the listener of `open` is final", async () => {
  const { socket, all, getTicket } = makeSocket();
  socket.addEventListener("open", () => socket.close());
  await settle();
  all[0].accept();
  await pass(100_000);
  assert.equal(all[0].closed.length, 1);
  assert.equal(getTicket.signals.length, 1);
});

test("sends", async () => {
  const { socket, all } = await makeOpen();
  socket.send("one");
  socket.send("two");
  assert.deepEqual(all[0].sent, ["one", "two"]);
});

const notOpen = { name: "InvalidStateError" };

test("without a queue, send() throws unless open", async () => {
  const { socket, all } = makeSocket();
  assert.throws(() => socket.send("early"), notOpen);
  await settle();
  assert.throws(() => socket.send("early"), notOpen);
  all[0].accept();
  all[0].lose();
  assert.throws(() => socket.send("late"), notOpen);
  socket.close();
  assert.throws(() => socket.send("late"), notOpen);
  assert.deepEqual(all[0].sent, []);
});

test("send() throws while the server closes: the browser would drop the message", async () => {
  const { socket, all } = await makeOpen();
  all[0].readyState = 2;
  assert.throws(() => socket.send("lost"), notOpen);
});

test("the queue is bounded, sent in order, before `open` is told, and once", async () => {
  const { socket, all } = makeSocket({ queue: 2 });
  socket.addEventListener("open", () => socket.send("three"), { once: true });
  socket.send("one");
  await settle();
  all[0].readyState = 1; // open, but its event is yet to come
  socket.send("two");
  assert.throws(() => socket.send("too much"), notOpen);
  all[0].accept();
  assert.deepEqual(all[0].sent, ["one", "two", "three"]);
  all[0].lose();
  socket.send("four");
  await pass(1000);
  all[1].accept();
  assert.deepEqual(all[1].sent, ["four"]);
});

test("at the end the queue is closed", async () => {
  const { socket } = makeSocket({ queue: 9 });
  socket.send("discarded");
  socket.close();
  assert.throws(() => socket.send("late"), notOpen);
});

test("bufferedAmount is the transport's", async () => {
  const { socket, all } = makeSocket();
  await settle();
  assert.equal(socket.bufferedAmount, 0);
  all[0].accept();
  all[0].bufferedAmount = 7;
  assert.equal(socket.bufferedAmount, 7);
  all[0].lose();
  assert.equal(socket.bufferedAmount, 0);
});

test("binaryType outlives a connection", async () => {
  const { socket, all } = makeSocket();
  assert.equal(socket.binaryType, "blob");
  await settle();
  assert.equal(all[0].binaryType, "blob");
  socket.binaryType = "arraybuffer";
  assert.equal(all[0].binaryType, "arraybuffer");
  all[0].lose();
  await pass(1000);
  assert.equal(all[1].binaryType, "arraybuffer");
  assert.equal(socket.binaryType, "arraybuffer");
});

test("binaryType may be set before anything is there", async () => {
  const { socket, all } = makeSocket();
  socket.binaryType = "arraybuffer";
  await settle();
  assert.equal(all[0].binaryType, "arraybuffer");
});

test("a page's first ticket serves the first attempt", async () => {
  const { all, getTicket } = makeSocket({ firstTicket: "rt_first" });
  await settle();
  assert.equal(getTicket.signals.length, 0);
  all[0].lose();
  await pass(1000);
  assert.deepEqual(all.map(ticketOf), ["ticket.rt_first", "ticket.rt_1"]);
});

for (const [age, lifetime, used] of [
  [7999, undefined, true],
  [8000, undefined, false],
  [799, 1000, true],
  [800, 1000, false],
])
  test(`a page of ${age} ms ${used ? "may" : "may not"} use it (${lifetime})`, async () => {
    mock.timers.tick(age);
    const { all } = makeSocket({ firstTicket: "rt_first", firstTicketLifetime: lifetime });
    await settle();
    assert.equal(ticketOf(all[0]), used ? "ticket.rt_first" : "ticket.rt_1");
  });

for (const firstTicket of [null, ""])
  test(`a page without a ticket (${firstTicket}) fetches one`, async () => {
    const { all } = makeSocket({ firstTicket });
    await settle();
    assert.equal(ticketOf(all[0]), "ticket.rt_1");
  });

test("a socket's error is nobody's to handle", async () => {
  const { all } = makeSocket();
  await settle();
  assert.equal(typeof all[0].onerror, "function");
  all[0].fire(new Event("error"));
});

test("fifty clients of one page come back one by one, with one ticket each", async () => {
  const fetch = fakeFetch(() => ok(`rt_${fetch.requests.length}`));
  const { WebSocket, all } = fakeWebSocket();
  const clients = Array.from({ length: 50 }, () =>
    new RealtimeSocket("wss://rt.example/", { fetch, WebSocket }),
  );
  const events = clients.map(listen);
  await settle();
  assert.equal(all.length, 50);
  for (const transport of [...all]) transport.accept();
  await pass(5000);
  for (const transport of [...all]) transport.lose(1012);
  await pass(499);
  assert.equal(all.length, 50);
  await pass(501);
  assert.equal(all.length, 100);
  assert.equal(new Set(all.map(ticketOf)).size, 100);
  assert.equal(fetch.requests.length, 100);
  assert.ok(new Set(events.flatMap(delays)).size > 40);
});

test("writes nothing to the console, and rejects nothing unheard", async () => {
  const unheard = [];
  const hear = (reason) => unheard.push(reason);
  process.on("unhandledRejection", hear);
  const methods = ["log", "info", "warn", "error", "debug"].map((name) =>
    mock.method(console, name, () => {}),
  );
  const { all } = makeSocket({ fetch: fakeFetch(no(503), () => Promise.reject(1), ok("rt_1"), no(401)) });
  for (let n = 0; n < 4; n++) await pass(20_000);
  all[0].accept();
  all[0].lose();
  await pass(20_000);
  await settle();
  process.off("unhandledRejection", hear);
  assert.deepEqual(unheard, []);
  for (const { mock } of methods) assert.equal(mock.callCount(), 0);
});
