/** The option `ping`: a connection that dies without a word is noticed. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import {
  RealtimeEventSource,
} from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import {
  fakeEventSource,
  installPage,
  listen,
  makeSocket,
  pass,
  restore,
  settle,
  stopClock,
  tickets,
} from "./fakes.mjs";

let page;

beforeEach(() => {
  stopClock();
  page = installPage();
});
afterEach(restore);

const PING = { interval: 3000, timeout: 2000, message: "are you there?" };

/** A socket that is open, with a heartbeat. */
async function makeOpen(options = {}) {
  const { socket, all, events } = makeSocket({ ping: PING, ...options });
  await settle();
  all[0].accept();
  events.length = 0;
  return { socket, all, events };
}

/** Let time pass in steps in which a timer can set the next one. */
async function passSlowly(ms) {
  for (; ms > 0; ms -= 100) await pass(Math.min(100, ms));
}

test("without the option, nothing is sent and silence is fine", async () => {
  const { all, events } = await makeOpen({ ping: undefined });
  await passSlowly(60_000);
  page.fire("online");
  await passSlowly(60_000);
  assert.deepEqual([all[0].sent, events.types()], [[], []]);
});

test("a ping is sent after each silence, as long as it is answered", async () => {
  const { all, events } = await makeOpen();
  for (let n = 1; n <= 3; n++) {
    await passSlowly(2900);
    assert.equal(all[0].sent.length, n - 1);
    await passSlowly(100);
    assert.deepEqual(all[0].sent, Array(n).fill("are you there?"));
    all[0].message("yes");
  }
  assert.deepEqual(events.types(), Array(3).fill("message"));
});

test("any message is a sign of life", async () => {
  const { all } = await makeOpen();
  for (let n = 0; n < 5; n++) {
    await passSlowly(2900);
    all[0].message("news");
  }
  assert.deepEqual(all[0].sent, []);
});

test("a ping without an answer ends the connection, and a new one is made", async () => {
  const { all, events } = await makeOpen();
  await passSlowly(4900);
  assert.deepEqual(events.types(), []);
  await passSlowly(100);
  const [close] = events;
  assert.deepEqual(events.types(), ["close", "waiting"]);
  assert.deepEqual([close.code, close.reason, close.wasClean], [1006, "silent", false]);
  assert.equal(all[0].closed.length, 1);
  await passSlowly(1000);
  assert.equal(all[1].protocols.at(-1), "ticket.rt_2");
  all[1].accept();
  await passSlowly(3000);
  assert.equal(all[1].sent.length, 1);
});

test("the interval, the timeout and the message have defaults", async () => {
  const { all, events } = await makeOpen({ ping: {} });
  await passSlowly(19_900);
  assert.deepEqual(all[0].sent, []);
  await passSlowly(100);
  assert.deepEqual(all[0].sent, ["ping"]);
  await passSlowly(4900);
  assert.deepEqual(events.types(), []);
  await passSlowly(100);
  assert.deepEqual(events.types(), ["close", "waiting"]);
});

for (const [name, sign] of [
  ["online", () => page.fire("online")],
  ["a page that gets visible", () => page.fire("visibilitychange")],
])
  test(`${name}: the connection is tried at once`, async () => {
    const { all, events } = await makeOpen();
    await passSlowly(500);
    for (let n = 0; n < 3; n++) sign();
    assert.equal(all[0].sent.length, 1);
    await passSlowly(1900);
    assert.deepEqual(events.types(), []);
    await passSlowly(100);
    assert.deepEqual(events.types(), ["close", "waiting"]);
  });

test("a page that gets hidden tries nothing", async () => {
  const { all } = await makeOpen();
  page.document.visibilityState = "hidden";
  page.fire("visibilitychange");
  assert.deepEqual(all[0].sent, []);
});

for (const [name, jump] of [
  ["the computer slept", 3_600_000],
  ["the clock was set back", -3_600_000],
])
  test(`after ${name} the connection is tried within a second`, async () => {
    const { all } = await makeOpen();
    await passSlowly(500);
    const now = Date.now() + jump;
    mock.method(Date, "now", () => now); // no timer has advanced meanwhile
    await passSlowly(1000);
    assert.equal(all[0].sent.length, 1);
  });

test("while a ping waits for its answer, messages are kept and then sent once", async () => {
  const { socket, all } = await makeOpen({ queue: 2 });
  socket.send("before");
  await passSlowly(3000);
  socket.send("one");
  socket.send("two");
  assert.throws(() => socket.send("three"), { name: "InvalidStateError" });
  all[0].message("yes");
  socket.send("four");
  assert.deepEqual(all[0].sent, ["before", "are you there?", "one", "two", "four"]);
});

test("or go to the next connection, and only to that", async () => {
  const { socket, all } = await makeOpen({ queue: 2 });
  await passSlowly(3000);
  socket.send("one");
  await passSlowly(2000);
  socket.send("two");
  await passSlowly(1000);
  all[1].accept();
  assert.deepEqual(all[0].sent, ["are you there?"]);
  assert.deepEqual(all[1].sent, ["one", "two"]);
});

test("without a queue they are sent nevertheless", async () => {
  const { socket, all } = await makeOpen();
  await passSlowly(3000);
  socket.send("one");
  assert.deepEqual(all[0].sent, ["are you there?", "one"]);
});

for (const end of [
  ({ socket }) => socket.close(),
  ({ all }) => all[0].lose(4403),
  () => page.fire("pagehide"),
])
  test(`nothing is sent after ${end}`, async () => {
    const made = await makeOpen();
    end(made);
    await passSlowly(10_000);
    assert.deepEqual([made.all.length, made.all[0].sent], [1, []]);
  });

/** A stream that is open, with a heartbeat. */
async function makeStream() {
  const { EventSource, all } = fakeEventSource();
  const options = { EventSource, getTicket: tickets(), random: () => 1, ping: PING };
  const source = new RealtimeEventSource("/events", options);
  const events = listen(source);
  await settle();
  all[0].accept();
  events.length = 0;
  return { source, all, events };
}

test("a stream is replaced after interval and timeout without an event", async () => {
  const { source, all, events } = await makeStream();
  source.addEventListener("tick", () => {});
  for (let n = 0; n < 3; n++) {
    await passSlowly(4900);
    all[0].message("", { type: "tick" });
  }
  page.fire("online"); // there is nothing to try it with
  await passSlowly(4900);
  assert.deepEqual(events.types(), []);
  await passSlowly(100);
  assert.deepEqual(events.types(), ["close", "waiting"]);
});
