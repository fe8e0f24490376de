/** A login that ends: close code 4401, its reason, and a 401 that is looked at twice. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import {
  fakeFetch,
  installPage,
  makeSocket,
  no,
  ok,
  pass,
  restore,
  settle,
  stopClock,
} from "./fakes.mjs";

beforeEach(stopClock);
afterEach(restore);

/** A socket that has been open for a minute, and the answers to its further requests. */
async function makeOpen(...answers) {
  const fetch = fakeFetch(ok("rt_1"), ...answers);
  const { socket, all, events } = makeSocket({ fetch, csrfToken: "x" });
  await settle();
  all[0].accept();
  await pass(60_000);
  events.length = 0;
  return { socket, all, fetch, events };
}

const delayOf = (events) => events.last("waiting").delay;

for (const [reason, delay] of [
  ["disconnected kind=user retry=2.6", 2600],
  ["reconnect kind=doubt retry=17.3", 17_300],
  ["expired kind=age retry=0.0", 0],
  ["a text of its own, later=1 retry=3 unknown=word", 3000],
  ["retry=3", 3000],
  ["disconnected kind=user retry=99999", 300_000],
  // Malformed, or not there: the client's own pause.
  ["disconnected kind=user", 1000],
  ["retry=", 1000],
  ["retry=soon", 1000],
  ["retry=-1", 1000],
  ["retry=1e9", 1000],
  ["retry=.5", 1000],
  ["noretry=5", 1000],
  ["retry=5s", 1000],
  ["", 1000],
])
  test(`"${reason}" waits ${delay} ms`, async () => {
    const { all, fetch, events } = await makeOpen(ok("rt_2"));
    all[0].lose(4401, reason);
    assert.deepEqual(events.types(), ["close", "waiting"]);
    assert.deepEqual([events[0].code, events[0].reason], [4401, reason]);
    assert.equal(delayOf(events), delay);
    if (delay) await pass(delay - 1);
    assert.equal(fetch.requests.length, 1);
    await pass(1);
    assert.equal(all[1].protocols.at(-1), "ticket.rt_2");
  });

test("no other code is read", async () => {
  const { all, events } = await makeOpen(ok("rt_2"));
  all[0].lose(1013, "storage retry=60");
  assert.equal(delayOf(events), 1000);
});

test("nothing hurries it", async () => {
  const page = installPage();
  const { all, fetch } = await makeOpen(ok("rt_2"));
  all[0].lose(4401, "reconnect kind=doubt retry=60");
  for (let n = 0; n < 59; n++) {
    await pass(1000);
    page.fire("online");
  }
  assert.equal(fetch.requests.length, 1);
  await pass(2000);
  assert.equal(fetch.requests.length, 2);
});

test("a server that says so to everyone again and again is not hammered", async () => {
  const { all, events } = await makeOpen(() => ok("rt_2"));
  const delays = [];
  for (let n = 0; n < 4; n++) {
    all.at(-1).lose(4401, "expired kind=age retry=0.0");
    delays.push(delayOf(events));
    await pass(20_000);
    all.at(-1).accept();
  }
  assert.deepEqual(delays, [0, 1500, 2500, 4500]);
});

test("after a logout, the first 401 is final", async () => {
  const { all, fetch, events } = await makeOpen(no(401));
  all[0].lose(4401, "disconnected kind=session");
  await pass(60_000);
  assert.equal(fetch.requests.length, 2);
  assert.equal(events.last("refused").error.status, 401);
});

for (const reason of ["disconnected kind=user retry=1.0", "ticket not accepted", "kind=sessions"])
  test(`after "${reason}", the second 401 is, three seconds later`, async () => {
    const { all, fetch, events } = await makeOpen(no(401), no(401));
    all[0].lose(4401, reason);
    await pass(1000);
    assert.equal(fetch.requests.length, 2);
    const { error } = events.last("ticketerror");
    assert.deepEqual([error.status, error.permanent], [401, false]);
    assert.equal(delayOf(events), 3000);
    await pass(2999);
    assert.equal(fetch.requests.length, 2);
    assert.equal(events.of("refused").length, 0);
    await pass(1);
    assert.equal(fetch.requests.length, 3);
    const { status, permanent } = events.last("refused").error;
    assert.deepEqual([status, permanent], [401, true]);
    await pass(100_000);
    assert.equal(fetch.requests.length, 3);
  });

test("a ticket at the second request brings the client back", async () => {
  const { all, events } = await makeOpen(no(401), ok("rt_2"), no(401));
  all[0].lose(4401, "disconnected kind=user retry=0.0");
  await pass(0);
  await pass(3000);
  all[1].accept();
  assert.equal(events.at(-1).type, "open");
  await pass(60_000);
  all[1].lose(1012);
  await pass(1000);
  assert.equal(events.last("refused").error.status, 401); // the doubt is over
});

test("an outage between the two does not count", async () => {
  const { all, fetch, events } = await makeOpen(no(503), no(401), no(401));
  all[0].lose(4401, "disconnected kind=user retry=0.0");
  await pass(0);
  await pass(2000);
  assert.equal(events.of("ticketerror").length, 2);
  await pass(3000);
  assert.equal(events.of("refused").length, 1);
  assert.equal(fetch.requests.length, 4);
});

test("without a 4401 before, the first 401 is final", async () => {
  const { all, fetch, events } = await makeOpen(no(401));
  all[0].lose(1006);
  await pass(60_000);
  assert.equal(fetch.requests.length, 2);
  assert.equal(events.of("refused").length, 1);
});

for (const status of [403, 404])
  test(`${status} that is not ours is final at the eighth time in a row`, async () => {
    const html = () => new Response("<h1>Deploying</h1>", { status });
    const { all, fetch, events } = await makeOpen(html, html, html, no(503), html);
    all[0].lose();
    for (let n = 0; n < 11; n++) {
      await pass(60_000);
      assert.equal(events.of("refused").length, 0);
    }
    await pass(60_000);
    assert.equal(events.last("refused").error.status, status);
    assert.equal(fetch.requests.length, 1 + 3 + 1 + 8);
  });
