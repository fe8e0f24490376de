/** What the page goes through: offline, hidden, left, restored. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { TicketError } from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import { installPage, later, makeSocket, pass, restore, settle, stopClock } from "./fakes.mjs";

let page;

beforeEach(() => {
  stopClock();
  page = installPage();
});
afterEach(restore);

/** One that is open for a while, and then lost. */
async function makeLost(options) {
  const made = makeSocket(options);
  await settle();
  made.all[0].accept();
  await pass(60_000);
  made.all[0].lose();
  made.events.length = 0;
  return made;
}

const SIGNS = {
  online: () => page.fire("online"),
  visible: () => page.fire("visibilitychange"),
};

for (const [name, sign] of Object.entries(SIGNS)) {
  test(`${name}: connects now, if waiting`, async () => {
    const { all, events } = await makeLost();
    sign();
    await settle();
    assert.equal(all.length, 2);
    await pass(5000);
    assert.equal(all.length, 2);
    assert.deepEqual(events.types(), ["connecting"]);
  });

  test(`${name}: not sooner than minDelay after the last attempt began`, async () => {
    const { all } = makeSocket({ minDelay: 1000, random: () => 0.5 });
    await settle();
    await pass(200);
    all[0].lose(); // the next attempt would begin at 1200 + 500
    for (let n = 0; n < 3; n++) sign();
    await pass(799);
    assert.equal(all.length, 1);
    await pass(501);
    assert.equal(all.length, 2);
  });

  test(`${name}: not sooner than Retry-After`, async () => {
    const busy = new TicketError("Busy.", { retryAfter: 30_000 });
    const answers = [() => Promise.reject(busy)];
    const getTicket = async () => answers.shift()?.() ?? "rt_2";
    const { all } = makeSocket({ getTicket, random: () => 0.2 });
    for (let n = 0; n < 299; n++) {
      await pass(100);
      sign();
    }
    await pass(99);
    assert.equal(all.length, 0);
    await pass(101);
    assert.equal(all.length, 1);
  });

  test(`${name}: means nothing to an attempt under way or a connection`, async () => {
    const answer = later();
    let count = 0;
    const { all } = makeSocket({ getTicket: () => (count++, answer.promise) });
    await pass(1000);
    sign();
    await settle();
    assert.equal(count, 1);
    answer.resolve("rt_1");
    await pass(1000);
    sign();
    all[0].accept();
    sign();
    await pass(1000);
    assert.deepEqual([count, all.length, all[0].closed], [1, 1, []]);
  });
}

test("a page that gets hidden changes nothing", async () => {
  const { all } = await makeLost();
  page.document.visibilityState = "hidden";
  page.fire("visibilitychange");
  await settle();
  assert.equal(all.length, 1);
});

test("attempts go on while the browser says that it is offline: localhost needs no network", async () => {
  page.navigator.onLine = false;
  const { all } = await makeLost();
  await pass(1000);
  assert.equal(all.length, 2);
});

test("leaving the page hangs up, so that it may stay in the bfcache", async () => {
  const { socket, all, getTicket, events } = makeSocket();
  await settle();
  all[0].accept();
  events.length = 0;
  page.fire("pagehide", { persisted: true });
  assert.deepEqual(all[0].closed, [[1000, ""]]);
  const [{ type, code, wasClean, willReconnect }] = events;
  assert.deepEqual([type, code, wasClean, willReconnect], ["close", 1000, true, true]);
  assert.equal(socket.readyState, 0);
  all[0].lose(1000);
  page.fire("online");
  page.fire("visibilitychange");
  await pass(100_000);
  assert.deepEqual(events.types(), ["close"]);
  assert.equal(getTicket.signals.length, 1);
});

test("coming back connects at once, with a new ticket", async () => {
  const { all, events } = makeSocket();
  await settle();
  all[0].accept();
  await pass(60_000);
  page.fire("pagehide", { persisted: true });
  events.length = 0;
  page.fire("pageshow", { persisted: true });
  await settle();
  assert.deepEqual(
    all.map(({ protocols }) => protocols.at(-1)),
    ["ticket.rt_1", "ticket.rt_2"],
  );
  all[0].lose(1006);
  all[1].accept();
  assert.deepEqual(events.types(), ["connecting", "open"]);
});

test("going back and forth does not undercut minDelay", async () => {
  const { all, getTicket } = makeSocket();
  for (let n = 0; n < 100; n++) {
    await pass(10);
    page.fire("pagehide");
    page.fire("pageshow");
  }
  assert.ok(getTicket.signals.length <= 3, String(getTicket.signals.length));
  await pass(1000);
  assert.equal(all.at(-1).closed.length, 0);
});

test("the pageshow of a page that loads changes nothing", async () => {
  const { all } = makeSocket();
  await settle();
  page.fire("pageshow", { persisted: false });
  all[0].accept();
  page.fire("pageshow", { persisted: false });
  await pass(100_000);
  assert.deepEqual([all.length, all[0].closed], [1, []]);
});

test("leaving while waiting stops the timer", async () => {
  const { all, events } = await makeLost();
  page.fire("pagehide");
  await pass(100_000);
  assert.equal(all.length, 1);
  page.fire("pageshow");
  await settle();
  assert.equal(all.length, 2);
  assert.deepEqual(events.types(), ["connecting"]);
});

test("leaving while a ticket is fetched drops it", async () => {
  const answers = [];
  const signals = [];
  const getTicket = ({ signal }) => {
    signals.push(signal);
    answers.push(later());
    return answers.at(-1).promise;
  };
  const { all, events } = makeSocket({ getTicket });
  await pass(1000);
  page.fire("pagehide");
  assert.equal(signals[0].aborted, true);
  page.fire("pageshow");
  await settle();
  answers[0].resolve("rt_late");
  answers[1].resolve("rt_2");
  await settle();
  assert.deepEqual(
    all.map(({ protocols }) => protocols.at(-1)),
    ["ticket.rt_2"],
  );
  assert.deepEqual(events.types(), ["connecting", "connecting"]);
});

test("close() while the page is left is final", async () => {
  const { socket, all } = makeSocket();
  await settle();
  all[0].accept();
  socket.addEventListener("close", () => socket.close());
  page.fire("pagehide");
  page.fire("pageshow");
  await pass(100_000);
  assert.equal(all.length, 1);
  assert.equal(socket.readyState, 3);
});

for (const [name, end] of [
  ["close()", ({ socket }) => socket.close()],
  ["close code 1000", ({ all }) => all[0].lose(1000)],
  ["close code 4403", ({ all }) => all[0].lose(4403)],
])
  test(`nothing listens to the page after ${name}`, async () => {
    const made = makeSocket();
    assert.deepEqual(
      [...page.listeners].sort(),
      ["online", "pagehide", "pageshow", "visibilitychange"],
    );
    await settle();
    made.all[0].accept();
    end(made);
    assert.deepEqual([...page.listeners], []);
  });

test("nothing listens to the page after a refusal", async () => {
  const getTicket = () => Promise.reject(new TicketError("No.", { permanent: true }));
  makeSocket({ getTicket });
  await settle();
  assert.deepEqual([...page.listeners], []);
});
