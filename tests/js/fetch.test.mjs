/** fetchTicket() and TicketError. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import {
  TicketError,
  fetchTicket,
} from "../../realtime_ticket/static/realtime_ticket/realtime-ticket.js";
import { fakeFetch, installPage, json, later, no, ok, pass, restore, settle, stopClock } from "./fakes.mjs";

beforeEach(stopClock);
afterEach(restore);

/** Return the TicketError that a request ends with. */
async function failure(promise) {
  const error = await promise.then(
    () => assert.fail("no error"),
    (error) => error,
  );
  assert.ok(error instanceof TicketError, String(error));
  return error;
}

const tokens = (fetch) => fetch.requests.map((request) => request.headers["X-CSRFToken"]);

test("asks with a POST of the same origin that nothing caches or redirects", async () => {
  installPage({ cookie: "a=b; csrftoken=secret; c=d" });
  const fetch = fakeFetch(ok("rt_1"));
  assert.equal(await fetchTicket({ fetch }), "rt_1");
  const [{ signal, ...request }] = fetch.requests;
  assert.deepEqual(request, {
    url: "/ticket/",
    method: "POST",
    mode: "same-origin",
    credentials: "same-origin",
    cache: "no-store",
    redirect: "manual",
    headers: { Accept: "application/json", "X-CSRFToken": "secret" },
    body: null,
  });
  assert.equal(signal.aborted, false);
});

test("uses the browser's fetch by default, without options", async () => {
  globalThis.fetch = fakeFetch(ok("rt_1"));
  assert.equal(await fetchTicket(), "rt_1");
});

test("asks another URL, for an audience, form-encoded", async () => {
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch, url: "/t/", audience: "a&b" });
  const [{ url, body }] = fetch.requests;
  assert.equal(url, "/t/");
  assert.equal(String(body), "audience=a%26b");
  const type = new Request("http://x/", { method: "POST", body }).headers.get("Content-Type");
  assert.match(type, /^application\/x-www-form-urlencoded/);
});

test("an empty audience is one, too", async () => {
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch, audience: "" });
  assert.equal(String(fetch.requests[0].body), "audience=");
});

for (const [name, page, options, token] of [
  ["the cookie", { cookie: "xcsrftoken=no; csrftoken=yes=" }, {}, "yes="],
  ["a cookie of another name", { cookie: "csrftoken=no; c=yes" }, { csrfCookie: "c" }, "yes"],
  ["the page's field", { field: { value: "yes" } }, {}, "yes"],
  ["the field rather than an empty cookie", { cookie: "csrftoken=", field: { value: "yes" } }, {}, "yes"],
  ["the cookie rather than the field", { cookie: "csrftoken=yes", field: { value: "no" } }, {}, "yes"],
  ["a string", { cookie: "csrftoken=no" }, { csrfToken: "yes" }, "yes"],
  ["a field", {}, { csrfToken: { value: "yes" } }, "yes"],
  ["a <meta>", {}, { csrfToken: { content: "yes" } }, "yes"],
  ["a function", {}, { csrfToken: () => "yes" }, "yes"],
  ["a function that finds an element", {}, { csrfToken: () => ({ value: "yes" }) }, "yes"],
  ["a function that finds nothing", { cookie: "csrftoken=yes" }, { csrfToken: () => null }, "yes"],
  ["nowhere", {}, {}, ""],
])
  test(`finds the CSRF token: ${name}`, async () => {
    installPage(page);
    const fetch = fakeFetch(ok("rt_1"));
    await fetchTicket({ fetch, ...options });
    assert.deepEqual(tokens(fetch), [token]);
  });

test("needs no page", async () => {
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch });
  assert.deepEqual(tokens(fetch), [""]);
});

test("reads the CSRF token again for every ticket, because a login changes it", async () => {
  const page = installPage({ cookie: "csrftoken=old" });
  const fetch = fakeFetch(() => ok("rt_1"));
  await fetchTicket({ fetch });
  page.document.cookie = "csrftoken=new";
  await fetchTicket({ fetch });
  assert.deepEqual(tokens(fetch), ["old", "new"]);
});

test("tries once more when the CSRF token changed meanwhile", async () => {
  const page = installPage({ cookie: "csrftoken=old" });
  const fetch = fakeFetch(() => {
    page.document.cookie = "csrftoken=new";
    return no(403);
  }, ok("rt_1"));
  assert.equal(await fetchTicket({ fetch }), "rt_1");
  assert.deepEqual(tokens(fetch), ["old", "new"]);
});

test("does so twice only", async () => {
  let count = 0;
  const fetch = fakeFetch(() => no(403));
  const error = await failure(fetchTicket({ fetch, csrfToken: () => String(++count) }));
  assert.equal(error.permanent, true);
  assert.deepEqual(tokens(fetch), ["1", "2", "3"]);
});

for (const status of [400, 401, 403, 404, 405])
  test(`${status} from our view is permanent`, async () => {
    const fetch = fakeFetch(no(status));
    const error = await failure(fetchTicket({ fetch, csrfToken: "same" }));
    assert.deepEqual([error.status, error.permanent], [status, true]);
    assert.equal(fetch.requests.length, 1);
  });

test("a redirect is permanent: it leads to a login page", async () => {
  const json = () => Promise.reject(new SyntaxError("no body"));
  const opaque = { type: "opaqueredirect", status: 0, ok: false, headers: new Headers(), json };
  const error = await failure(fetchTicket({ fetch: fakeFetch(opaque) }));
  assert.deepEqual([error.status, error.permanent], [0, true]);
  // As Node.js tells it.
  const redirect = new Response(null, { status: 302, headers: { Location: "/login/" } });
  const other = await failure(fetchTicket({ fetch: fakeFetch(redirect) }));
  assert.deepEqual([other.status, other.permanent], [302, true]);
});

for (const status of [408, 409, 429, 500, 502, 503])
  test(`${status} is not permanent`, async () => {
    const error = await failure(fetchTicket({ fetch: fakeFetch(no(status)) }));
    assert.deepEqual([error.status, error.permanent, error.retryAfter], [status, false, null]);
  });

for (const [name, body] of [
  ["HTML", "<!doctype html><p>rt_secret</p>"],
  ["half of it", '{"status": "ok", "message": "rt_secret'],
  ["an error", '{"status": "error", "message": "rt_secret"}'],
  ["no string", '{"status": "ok", "message": 7}'],
  ["null", "null"],
  ["a string", '"rt_secret"'],
  ["nothing", ""],
])
  test(`200 with ${name} is no ticket, and is not quoted`, async () => {
    const error = await failure(fetchTicket({ fetch: fakeFetch(new Response(body)) }));
    assert.deepEqual([error.status, error.permanent], [200, false]);
    assert.ok(!`${error}${error.stack}${error.cause}`.includes("rt_secret"));
  });

test("a failed response with a ticket in it is no ticket", async () => {
  const answer = json({ status: "ok", message: "rt_1" }, { status: 500 });
  assert.equal((await failure(fetchTicket({ fetch: fakeFetch(answer) }))).status, 500);
});

for (const [header, ms] of [
  ["1", 1000],
  ["0", 0],
  ["Thu, 01 Jan 1970 00:01:00 GMT", 60_000],
  ["Wed, 31 Dec 1969 23:00:00 GMT", 0],
  ["soon", null],
  ["", null],
])
  test(`Retry-After: ${header || "(empty)"}`, async () => {
    const fetch = fakeFetch(no(503, { "Retry-After": header }));
    assert.equal((await failure(fetchTicket({ fetch }))).retryAfter, ms);
  });

test("a network failure is not permanent, and is the cause", async () => {
  const cause = new TypeError("Failed to fetch");
  const error = await failure(fetchTicket({ fetch: async () => Promise.reject(cause) }));
  assert.deepEqual([error.status, error.permanent, error.retryAfter], [0, false, null]);
  assert.equal(error.cause, cause);
});

test("a function that throws is the cause, too", async () => {
  const cause = new Error("no token");
  const csrfToken = () => {
    throw cause;
  };
  assert.equal((await failure(fetchTicket({ csrfToken }))).cause, cause);
});

for (const timeout of [undefined, 70])
  test(`waits ${timeout ?? 5000} ms, also for a fetch that ignores its signal`, async () => {
    const fetch = fakeFetch(() => later().promise);
    let error;
    fetchTicket({ fetch, timeout }).catch((reason) => (error = reason));
    await pass((timeout ?? 5000) - 1);
    assert.equal(error, undefined);
    await pass(1);
    assert.deepEqual([error.status, error.permanent], [0, false]);
    assert.equal(fetch.requests[0].signal.aborted, true);
  });

test("the time counts for the body, too", async () => {
  const answer = { ok: true, status: 200, headers: new Headers(), json: () => later().promise };
  let error;
  fetchTicket({ fetch: fakeFetch(answer) }).catch((reason) => (error = reason));
  await pass(5000);
  assert.ok(error instanceof TicketError);
});

test("stops by a signal", async () => {
  const controller = new AbortController();
  const fetch = fakeFetch(() => later().promise);
  const promise = failure(fetchTicket({ fetch, signal: controller.signal }));
  await settle();
  controller.abort();
  const error = await promise;
  assert.deepEqual([error.status, error.permanent], [0, false]);
  assert.equal(fetch.requests[0].signal.aborted, true);
});

test("asks nothing when the signal has stopped it before", async () => {
  const fetch = fakeFetch(ok("rt_1"));
  await failure(fetchTicket({ fetch, signal: AbortSignal.abort() }));
  assert.equal(fetch.requests.length, 0);
});

test("leaves no timer and no listener behind", async () => {
  const controller = new AbortController();
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch, signal: controller.signal });
  await settle();
  controller.abort();
  await pass(60_000);
  assert.equal(fetch.requests[0].signal.aborted, false);
});

test("a TicketError says what it is", () => {
  const error = new TicketError("No.", { permanent: true });
  assert.ok(error instanceof Error);
  assert.equal(String(error), "TicketError: No.");
  const { status, retryAfter, permanent } = new TicketError("No.");
  assert.deepEqual({ status, retryAfter, permanent }, { status: 0, retryAfter: null, permanent: false });
});

for (const [name, page, order] of [
  ["an old cookie, and then the field", { cookie: "csrftoken=old", field: { value: "new" } }, ["old", "new"]],
  ["two cookies, the last one first", { cookie: "csrftoken=old; csrftoken=last", field: { value: "f" } }, ["last", "old", "f"]],
  ["each token once", { cookie: "csrftoken=same", field: { value: "same" } }, ["same"]],
])
  test(`after 403 tries the page's other tokens: ${name}`, async () => {
    installPage(page);
    const fetch = fakeFetch(() => no(403));
    await failure(fetchTicket({ fetch }));
    assert.deepEqual(tokens(fetch), order);
  });

test("takes a promise of a CSRF token, and another header", async () => {
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch, csrfToken: async () => "yes", csrfHeader: "X-Other" });
  const { headers } = fetch.requests[0];
  assert.deepEqual(headers, { Accept: "application/json", "X-Other": "yes" });
});

for (const status of [400, 403, 404, 405])
  test(`${status} that is not ours is not permanent`, async () => {
    const html = () => new Response("<h1>Not here</h1>", { status });
    const error = await failure(fetchTicket({ fetch: fakeFetch(html) }));
    assert.deepEqual([error.status, error.permanent], [status, false]);
  });

test("401 is permanent, from a proxy, too", async () => {
  const fetch = fakeFetch(new Response("", { status: 401 }));
  assert.equal((await failure(fetchTicket({ fetch }))).permanent, true);
});

test("another origin is an error at once, without a request", async () => {
  installPage();
  const fetch = fakeFetch(ok("rt_1"));
  const error = await failure(fetchTicket({ fetch, url: "https://api.example/ticket/" }));
  assert.deepEqual([error.status, error.permanent], [0, true]);
  assert.match(error.message, /another origin.*credentials/);
  assert.equal(fetch.requests.length, 0);
});

test("the page's own origin may be written out", async () => {
  installPage();
  const fetch = fakeFetch(ok("rt_1"));
  await fetchTicket({ fetch, url: "https://site.example/ticket/" });
  assert.equal(fetch.requests[0].mode, "same-origin");
});

test("another origin works with credentials", async () => {
  installPage();
  const fetch = fakeFetch(ok("rt_1"));
  const url = "https://api.example/ticket/";
  assert.equal(await fetchTicket({ fetch, url, credentials: "include" }), "rt_1");
  const [{ mode, credentials }] = fetch.requests;
  assert.deepEqual([mode, credentials], ["cors", "include"]);
});

test("its error says what went wrong", async () => {
  const fetch = async () => Promise.reject(new TypeError("Failed to fetch"));
  const { message } = await failure(fetchTicket({ fetch }));
  assert.equal(message, "No ticket: TypeError: Failed to fetch");
});
