/** RealtimeEventSource, where it is not like RealtimeSocket. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import {
  RealtimeEventSource,
  TicketError,
} from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import {
  fakeEventSource,
  fakeFetch,
  installPage,
  listen,
  ok,
  pass,
  restore,
  settle,
  stopClock,
  tickets,
} from "./fakes.mjs";

beforeEach(stopClock);
afterEach(restore);

function make(options = {}, url = "https://rt.example/events?room=a#top") {
  const { EventSource, all } = fakeEventSource();
  const getTicket = tickets();
  const random = () => 1;
  const source = new RealtimeEventSource(url, { EventSource, getTicket, random, ...options });
  return { source, all, getTicket, events: listen(source) };
}

async function makeOpen(options) {
  const made = make(options);
  await settle();
  made.all[0].accept();
  return made;
}

const queryOf = ({ url }) => Object.fromEntries(new URL(url).searchParams);

test("connects by itself, with the ticket in the query", async () => {
  const { source, all, events } = await makeOpen();
  assert.equal(all[0].url, "https://rt.example/events?room=a&ticket=rt_1");
  assert.deepEqual(all[0].init, { withCredentials: undefined });
  assert.equal(source.url, "https://rt.example/events?room=a");
  assert.equal(source.readyState, 1);
  assert.deepEqual(events.types(), ["connecting", "open"]);
});

test("takes options", async () => {
  const { all } = await makeOpen({ param: "t", lastEventIdParam: "id", withCredentials: true });
  assert.deepEqual(all[0].init, { withCredentials: true });
  all[0].message("", { lastEventId: "7" });
  all[0].lose();
  await pass(1000);
  assert.deepEqual(queryOf(all[1]), { room: "a", t: "rt_2", id: "7" });
});

test("uses the browser's EventSource and fetchTicket() by default", async () => {
  installPage();
  const { EventSource, all } = fakeEventSource();
  globalThis.EventSource = EventSource;
  globalThis.fetch = fakeFetch(ok("rt_1"));
  const source = new RealtimeEventSource("/events");
  await settle();
  delete globalThis.EventSource;
  assert.equal(all[0].url, "https://site.example/events?ticket=rt_1");
  source.close();
});

test("the browser's own reconnecting, with the spent ticket, is stopped", async () => {
  const { source, all, events } = await makeOpen();
  events.length = 0;
  all[0].lose(0);
  assert.equal(all[0].closed.length, 1);
  assert.equal(source.readyState, 0);
  const [{ code, reason, wasClean, willReconnect }] = events;
  assert.deepEqual([code, reason, wasClean, willReconnect], [1006, "", false, true]);
  await pass(1000);
  assert.equal(queryOf(all[1]).ticket, "rt_2");
  assert.deepEqual(events.types(), ["close", "waiting", "connecting"]);
});

test("a server that refuses the stream is asked again, less and less", async () => {
  const { all, events } = make();
  for (let n = 0; n < 3; n++) {
    await settle();
    all.at(-1).lose(2);
    await pass(20_000);
  }
  assert.deepEqual(
    events.of("waiting").map((event) => event.delay),
    [1000, 1500, 2500],
  );
});

test("a server that does not answer is given up", async () => {
  const { all, events } = make();
  await settle();
  await pass(59_999); // a WSGI server sends its headers with the first event
  assert.equal(events.last("close"), undefined);
  await pass(1);
  assert.equal(events.last("close").reason, "timeout");
  assert.equal(all[0].closed.length, 1);
});

test("a permanent ticket error ends it", async () => {
  const getTicket = () => Promise.reject(new TicketError("No.", { permanent: true }));
  const { all, events } = make({ getTicket });
  await pass(100_000);
  assert.deepEqual(events.types(), ["connecting", "refused"]);
  assert.equal(all.length, 0);
});

test("another ticket error does not", async () => {
  const { events } = make({ getTicket: () => Promise.reject(new Error("down")) });
  await settle();
  assert.deepEqual(events.types(), ["connecting", "ticketerror", "waiting"]);
});

test("messages are the server's, and their id is the next connection's", async () => {
  const { all, events } = await makeOpen();
  all[0].message("hello", { lastEventId: "7", origin: "https://rt.example" });
  const message = events.last("message");
  assert.ok(message instanceof MessageEvent);
  const { data, lastEventId, origin } = message;
  assert.deepEqual([data, lastEventId, origin], ["hello", "7", "https://rt.example"]);
  all[0].lose();
  await pass(1000);
  assert.deepEqual(queryOf(all[1]), { room: "a", ticket: "rt_2", lastEventId: "7" });
  all[1].lose();
  await pass(2000);
  assert.equal(queryOf(all[2]).lastEventId, "7");
});

test("an empty id, by which a server starts afresh, is not sent", async () => {
  const { all } = await makeOpen();
  all[0].message("", { lastEventId: "7" });
  all[0].message("", { lastEventId: "" });
  all[0].lose();
  await pass(1000);
  assert.deepEqual(queryOf(all[1]), { room: "a", ticket: "rt_2" });
});

test("a message without an id does not make an earlier connection's forgotten", async () => {
  const { all } = await makeOpen();
  all[0].message("", { lastEventId: "7" });
  all[0].lose();
  await pass(1000);
  all[1].message("hello"); // the browser's new EventSource knows no id: ""
  all[1].lose();
  await pass(2000);
  assert.equal(queryOf(all[2]).lastEventId, "7");
  all[2].message("", { lastEventId: "8" });
  all[2].message("", { lastEventId: "" });
  all[2].lose();
  await pass(4000);
  assert.equal(queryOf(all[3]).lastEventId, undefined);
});

test("named events are the server's, on every connection, and count as last event", async () => {
  const { source, all } = make();
  const heard = [];
  const listener = (event) => heard.push([event.constructor, event.type, event.data]);
  source.addEventListener("score", listener);
  await settle();
  all[0].accept();
  all[0].message("1:0", { type: "score", lastEventId: "8" });
  all[0].lose();
  await pass(1000);
  assert.equal(queryOf(all[1]).lastEventId, "8");
  all[1].accept();
  all[1].message("2:0", { type: "score" });
  assert.deepEqual(heard, [
    [MessageEvent, "score", "1:0"],
    [MessageEvent, "score", "2:0"],
  ]);
});

test("a name may be added while connected, and twice", async () => {
  const { source, all } = await makeOpen();
  const heard = [];
  source.addEventListener("score", () => heard.push(1));
  source.addEventListener("score", { handleEvent: () => heard.push(2) }, { once: true });
  all[0].message("", { type: "score" });
  all[0].message("", { type: "score" });
  assert.deepEqual(heard, [1, 2, 1]);
});

test("a listener can be removed", async () => {
  const { source, all } = await makeOpen();
  const heard = [];
  const listener = () => heard.push(1);
  source.addEventListener("score", listener);
  source.removeEventListener("score", listener);
  all[0].message("", { type: "score" });
  assert.deepEqual(heard, []);
});

test("the server's events cannot pass for ours", async () => {
  const { source, all, events } = await makeOpen();
  source.addEventListener("error", () => assert.fail("heard"));
  events.length = 0;
  for (const type of ["close", "refused", "waiting", "connecting", "ticketerror", "error"])
    all[0].message("", { type });
  assert.deepEqual(events.types(), []);
  assert.equal(source.readyState, 1);
});

test("nothing of a superseded attempt is heard", async () => {
  const { source, all, events } = await makeOpen();
  source.addEventListener("score", () => assert.fail("heard"));
  all[0].lose();
  events.length = 0;
  all[0].message("late", { lastEventId: "9" });
  all[0].message("late", { type: "score", lastEventId: "9" });
  all[0].accept();
  all[0].lose();
  await pass(1000);
  assert.deepEqual(events.types(), ["connecting"]);
  assert.equal(queryOf(all[1]).lastEventId, undefined);
});

test("close() is final", async () => {
  const { source, all, getTicket, events } = await makeOpen();
  source.close();
  assert.equal(all[0].closed.length, 1);
  all[0].message("late");
  all[0].lose();
  await pass(100_000);
  assert.equal(source.readyState, 2);
  assert.equal(getTicket.signals.length, 1);
  assert.deepEqual(events.types(), ["connecting", "open", "close"]);
  assert.equal(events.at(-1).willReconnect, false);
});

test("reconnect() may stop it", async () => {
  const { source, all } = await makeOpen({ reconnect: () => false });
  all[0].lose();
  await pass(100_000);
  assert.deepEqual([source.readyState, all.length], [2, 1]);
});

test("leaving the page closes it, coming back opens it", async () => {
  const page = installPage();
  const { all } = await makeOpen();
  await pass(60_000);
  page.fire("pagehide");
  assert.equal(all[0].closed.length, 1);
  page.fire("pageshow");
  await settle();
  assert.equal(all.length, 2);
});
