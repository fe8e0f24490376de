/**
 * Connect a page to a realtime server with tickets of django-realtime-ticket.
 *
 * A ticket works once and lives for seconds, so every attempt to connect fetches a new one.
 * All durations are milliseconds.
 *
 * @module
 */

// React Native lacks some of them. Say so here: later errors would be hard to read.
for (const name of ["EventTarget", "Event", "MessageEvent", "DOMException"])
  if (!(name in globalThis))
    throw new Error(`realtime-ticket.js needs a polyfill of ${name}.`);

/**
 * The options of fetchTicket(). All are optional.
 *
 * @typedef {object} TicketOptions
 * @property {string | undefined} [url] Where Django issues tickets: "/ticket/".
 * @property {"same-origin" | "include" | undefined} [credentials] "include" if that is on
 *   another origin than the page: cookies are sent there, and CORS must allow it.
 *   Default: "same-origin".
 * @property {CsrfToken | (() => CsrfToken | null | Promise<CsrfToken | null>)
 *   | undefined} [csrfToken] Django's CSRF token, the element that holds it, or a function
 *   that returns either. It is read for every request, because a login changes it.
 *   Default: the cookie, and the page's field csrfmiddlewaretoken if Django refuses it.
 * @property {string | undefined} [csrfCookie] CSRF_COOKIE_NAME: "csrftoken".
 * @property {string | undefined} [csrfHeader] CSRF_HEADER_NAME as a browser writes it:
 *   "X-CSRFToken".
 * @property {string | undefined} [audience] Who the ticket is for.
 * @property {number | undefined} [timeout] How long to wait for a ticket: 5000.
 * @property {AbortSignal | undefined} [signal] Stops the waiting.
 * @property {typeof globalThis.fetch | undefined} [fetch] Used in place of the browser's.
 */

/**
 * A token, or an element with a value or content. (Not `Element`: workers have none.)
 *
 * @typedef {string | {getAttribute(name: string): string | null}
 *   | {value?: string, content?: string}} CsrfToken
 */

/**
 * The options of both kinds of connection. All are optional.
 *
 * @typedef {object} ConnectionOptions
 * @property {string | undefined} [ticketUrl] See TicketOptions.url.
 * @property {TicketOptions["credentials"]} [credentials] See TicketOptions.
 * @property {TicketOptions["csrfToken"]} [csrfToken] See TicketOptions.
 * @property {string | undefined} [csrfCookie] See TicketOptions.
 * @property {string | undefined} [csrfHeader] See TicketOptions.
 * @property {string | undefined} [audience] See TicketOptions.
 * @property {number | undefined} [timeout] How long to wait for a ticket, and for the URL
 *   if that is a function: 5000.
 * @property {typeof globalThis.fetch | undefined} [fetch] Used in place of the browser's.
 * @property {((context: {signal: AbortSignal}) => string | Promise<string>)
 *   | undefined} [getTicket] Used in place of fetchTicket(). The client tries again after
 *   what it throws, but ends after a permanent TicketError.
 * @property {string | null | undefined} [firstTicket] The ticket in the page itself,
 *   `{{ realtime_ticket|default_if_none:'' }}`. It serves the first attempt, if the page is
 *   young enough.
 * @property {number | undefined} [firstTicketLifetime] REALTIME_TICKET_EXPIRE in ms: 10000.
 * @property {string | undefined} [param] The query parameter of the ticket: "ticket".
 * @property {Ping | undefined} [ping] Notice a connection that died silently.
 *   Default: off.
 * @property {number | undefined} [minDelay] The least time between two attempts: 500.
 * @property {number | undefined} [maxDelay] The most time to wait before an attempt, unless
 *   the server asks for more: 20000.
 * @property {number | undefined} [stableAfter] How long a connection has to last before the
 *   delays start from minDelay again: 5000.
 * @property {number | undefined} [connectTimeout] How long to wait for the server to accept:
 *   10000, and 60000 for an EventSource.
 * @property {false | ((event: CloseEventLike) => boolean) | undefined} [reconnect] Whether to
 *   connect again after this loss. Default: after all but the codes 1000, 4403 and 4500 to
 *   4999. False: never, as a plain WebSocket; then a missing ticket is a loss, too.
 * @property {(() => number) | undefined} [random] Used in place of Math.random.
 */

/**
 * When `interval` has passed without a message, the message `ping` is sent; when `timeout`
 * has passed after that without any message from the server, the connection is replaced.
 * An EventSource sends nothing, so the server must send an event in every `interval`.
 *
 * @typedef {object} Ping
 * @property {number | undefined} [interval] 20000
 * @property {number | undefined} [timeout] 5000
 * @property {Parameters<WebSocket["send"]>[0] | undefined} [message] What the server answers
 *   with any message: "ping".
 */

/**
 * @typedef {object} SocketOptions
 * @property {"subprotocol" | "query" | undefined} [carrier] Where the ticket travels:
 *   "subprotocol".
 * @property {string | string[] | undefined} [protocols] Subprotocols of the application.
 * @property {number | undefined} [queue] How many messages send() keeps while there is no
 *   connection: 0.
 * @property {(new (url: string, protocols: string[]) => WebSocket) | undefined} [WebSocket]
 *   Used in place of the browser's.
 */

/**
 * @typedef {object} EventSourceOptions
 * @property {string | undefined} [lastEventIdParam] The query parameter for the id of the
 *   last event: "lastEventId".
 * @property {boolean | undefined} [withCredentials] Send cookies to another origin: false.
 * @property {(new (url: string, init: EventSourceInit) => EventSource)
 *   | undefined} [EventSource] Used in place of the browser's.
 */

/** @typedef {string | URL | (() => string | URL | Promise<string | URL>)} Address */
/** @typedef {Event & {attempt: number}} ConnectingEvent */
/** @typedef {Event & {delay: number, attempt: number}} WaitingEvent */
/** @typedef {Event & {error: TicketError}} TicketErrorEvent */
/**
 * @typedef {Event & {code: number, reason: string, wasClean: boolean,
 *   willReconnect: boolean}} CloseEventLike
 */

/**
 * The events of a connection, in the order of an attempt.
 *
 * A connection has ended with `refused`, or with `close` where `willReconnect` is false.
 *
 * @typedef {object} ConnectionEvents
 * @property {ConnectingEvent} connecting An attempt begins. `attempt` counts from 1
 *   since the last stable connection.
 * @property {Event} open The server has accepted.
 * @property {MessageEvent} message As the browser's own.
 * @property {Event} error Before `close` with the code 1006: no side closed it.
 * @property {CloseEventLike} close A connection is lost or was not accepted.
 * @property {TicketErrorEvent} ticketerror No ticket this time.
 * @property {WaitingEvent} waiting The next attempt begins in `delay` ms.
 * @property {TicketErrorEvent} refused Access is denied: by Django, where `error.status`
 *   is 401 for example; or by the realtime server, after a `close` with 4403 or 4500 to 4999.
 */

/**
 * @typedef {{
 *   addEventListener<K extends keyof ConnectionEvents>(
 *     type: K,
 *     listener: ((event: ConnectionEvents[K]) => void) | null,
 *     options?: boolean | AddEventListenerOptions): void,
 *   removeEventListener(
 *     type: string,
 *     listener: ((event: any) => void) | EventListenerObject | null,
 *     options?: boolean | EventListenerOptions): void,
 * } & EventTarget} ConnectionTarget
 */

/**
 * Do something after a time. setTimeout() alone would do it at once after a very long one.
 *
 * @param {number} ms
 * @param {() => void} work
 */
const later = (ms, work) => setTimeout(work, Math.min(2 ** 31 - 1, ms));

/** How many answers of 403 or 404 that are not ours may come from a deployment. */
const STRANGE = 8;

/** How long to wait before a second 401 is final, while Django may change a session. */
const SECOND_LOOK = 3000;

/** Why there is no ticket. */
export class TicketError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number | undefined, retryAfter?: number | null | undefined,
   *   permanent?: boolean | undefined, cause?: unknown}} [info]
   */
  constructor(message, { status = 0, retryAfter = null, permanent = false, cause } = {}) {
    super(message, { cause });
    this.name = "TicketError";
    /** The HTTP status, or 0 without one: network, timeout, abort. */
    this.status = status;
    /** How many ms Django asks to wait, or null. */
    this.retryAfter = retryAfter;
    /** Whether it is useless to try again. */
    this.permanent = permanent;
  }
}

/**
 * Run work, and stop waiting for it after a time or by a signal.
 *
 * @param {number} timeout ms
 * @param {AbortSignal | undefined} signal
 * @param {(signal: AbortSignal) => Promise<string>} work
 * @returns {Promise<string>} rejected with a TicketError
 */
function within(timeout, signal, work) {
  const controller = new AbortController();
  return new Promise((resolve, reject) => {
    /** @param {unknown} cause */
    const fail = (cause) =>
      reject(
        cause instanceof TicketError ? cause : new TicketError(`No ticket: ${cause}`, { cause }),
      );
    const stop = () => {
      controller.abort();
      fail("stopped, or no answer in time");
    };
    if (signal?.aborted) return stop();
    const timer = setTimeout(stop, timeout);
    signal?.addEventListener("abort", stop);
    work(controller.signal)
      .then(resolve, fail)
      .finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
      });
  });
}

/**
 * @param {TicketOptions} options
 * @returns {Promise<string[]>} at least one, the most likely one first
 */
async function readCsrfTokens({ csrfToken, csrfCookie = "csrftoken" }) {
  const given = await (typeof csrfToken === "function" ? csrfToken() : csrfToken);
  const { document } = globalThis;
  /** @type {any[]} */
  const sources = given
    ? [given]
    : [
        // Of two cookies with this name, Django reads the last one.
        ...(document?.cookie.split("; ") ?? [])
          .filter((pair) => pair.startsWith(csrfCookie + "="))
          .map((pair) => pair.slice(csrfCookie.length + 1))
          .reverse(),
        // Django may read no cookie any more: CSRF_USE_SESSIONS, or another domain.
        document?.querySelector("[name=csrfmiddlewaretoken]"),
      ];
  const tokens = sources
    .map((token) => (typeof token === "string" ? token : (token?.value ?? token?.content)))
    .filter(Boolean);
  return tokens.length ? tokens : [""];
}

/**
 * @param {any} header seconds, or a date, or null
 * @returns {number | null} ms
 */
function parseRetryAfter(header) {
  const ms = /^\d+$/.test(header) ? header * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}

/** @param {string | URL} url */
const resolve = (url) => {
  const { document, location } = globalThis;
  const resolved = new URL(url, document?.baseURI ?? location?.href);
  resolved.hash = "";
  return resolved;
};

/**
 * @param {TicketOptions} options
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
async function askForTicket(options, signal) {
  const { url = "/ticket/", credentials = "same-origin", audience } = options;
  const { csrfHeader = "X-CSRFToken", fetch = globalThis.fetch } = options;
  const elsewhere = credentials === "include";
  // Without this, fetch() would fail as it does without a network, every time.
  const { origin } = globalThis;
  if (!elsewhere && origin && resolve(url).origin !== origin)
    throw new TicketError(`No ticket: ${url} is on another origin. See "credentials".`, {
      permanent: true,
    });
  /** @type {string[]} */
  const tried = [];
  let response = /** @type {Response} */ ({ status: 403 });
  while (response.status === 403 && tried.length < 3) {
    // Read again: another tab may have logged in meanwhile, which changes the token.
    const token = (await readCsrfTokens(options)).find((token) => !tried.includes(token));
    if (token === undefined) break;
    tried.push(token);
    response = await fetch(url, {
      method: "POST",
      mode: elsewhere ? "cors" : "same-origin",
      credentials,
      cache: "no-store",
      redirect: "manual",
      headers: { Accept: "application/json", [csrfHeader]: token },
      body: audience === undefined ? null : new URLSearchParams({ audience }),
      signal,
    });
  }
  const { status } = response;
  // No cause and no body in the error: either may quote the ticket.
  const data = await response.json().catch(() => null);
  if (response.ok && data?.status === "ok" && typeof data.message === "string") return data.message;
  throw new TicketError(`No ticket: HTTP ${status || "redirect"}`, {
    status,
    retryAfter: parseRetryAfter(response.headers.get("Retry-After")),
    permanent:
      response.type === "opaqueredirect" ||
      /^3|^401/.test(String(status)) ||
      // What is not ours may come from a proxy during a deployment.
      (data?.status === "error" && /^40[0-5]/.test(String(status))),
  });
}

/**
 * Ask Django for a ticket.
 *
 * @param {TicketOptions} [options]
 * @returns {Promise<string>} the ticket, good for one connection. Rejected with a
 *   TicketError, which is permanent after 401, a redirect (to a login page, say), and 400,
 *   403, 404 or 405 from this package's view; and for a URL on another origin.
 */
export function fetchTicket(options = {}) {
  return within(options.timeout ?? 5000, options.signal, (signal) =>
    askForTicket(options, signal),
  );
}

/** @param {number} code */
const isRefusal = (code) => code === 4403 || (code >= 4500 && code < 5000);

/**
 * @template {object} T
 * @param {string} type
 * @param {T} properties
 */
const eventOf = (type, properties) => Object.assign(new Event(type), properties);

/**
 * @param {number} code
 * @param {string} reason
 * @param {boolean} wasClean
 * @param {boolean} willReconnect
 * @returns {CloseEventLike}
 */
const closeEventOf = (code, reason, wasClean, willReconnect) => {
  const init = { code, reason, wasClean };
  const { CloseEvent } = globalThis; // Node.js and React Native have none.
  const event = CloseEvent ? new CloseEvent("close", init) : eventOf("close", init);
  return Object.assign(/** @type {any} */ (event), { willReconnect });
};

/**
 * @param {Event} event
 * @returns {MessageEvent} one that can be dispatched again
 */
const copyOf = (event) => {
  const { type, data, origin, lastEventId } = /** @type {MessageEvent} */ (event);
  return new MessageEvent(type, { data, origin, lastEventId });
};

/**
 * @param {URL} url
 * @param {Record<string, string>} parameters
 */
const withQuery = (url, parameters) => {
  const target = new URL(url);
  for (const name in parameters) target.searchParams.set(name, parameters[name]);
  return target.href;
};

/** What must be known to the next attempt, even if it is another object's. */
const newMemory = () => ({
  /** Until when the server asked us to wait, by performance.now(). */
  after: 0,
  /** Whether a 401 has to be confirmed by a second one. */
  doubt: false,
  /** How many answers in a row were 403 or 404, but not ours. */
  strange: 0,
});

/** What both kinds of connection do: ticket, connection, loss, pause. */
class Connection extends /** @type {new () => ConnectionTarget} */ (EventTarget) {
  static CONNECTING = 0;
  static OPEN = 1;
  CONNECTING = 0;
  OPEN = 1;
  CLOSED = 3;

  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: Event) => void) | null} */
  onerror = null;
  /** @type {((event: CloseEventLike) => void) | null} */
  onclose = null;

  #address;
  #scheme;
  /** @type {URL | undefined} */
  #url;
  #options;
  #memory;
  #firstTicket;
  /** @type {"waiting" | "connecting" | "open" | "hidden" | "closed"} */
  #phase = "waiting";
  #failures = 0;
  /** Aborted as soon as the events of this attempt must be ignored. */
  #attempt = new AbortController();
  /** Aborted at the end. */
  #life = new AbortController();
  #began = -Infinity;
  /** For the next attempt, or the server's answer, or the connection to be stable.
   * @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pingTimer;
  /** When the last message came, or the ping went out, by Date.now(). */
  #heard = 0;
  /** @type {Pick<WebSocket, "close"> | null} */
  #transport = null;
  /** @type {Parameters<Connection["_start"]>[0]} */
  #dial = /** @type {any} */ (null); // until _start()

  /** @internal Whether a ping waits for its answer. */
  _silent = false;

  /**
   * @param {Address} address
   * @param {"ws" | "http"} scheme
   * @param {ConnectionOptions} options
   */
  constructor(address, scheme, options) {
    super();
    this.#address = address;
    this.#scheme = scheme;
    this.#options = options;
    /** @type {ReturnType<typeof newMemory>} */
    this.#memory = /** @type {any} */ (options).memory ?? newMemory();
    this.#firstTicket = options.firstTicket;
    if (typeof address !== "function") this.#resolve(address);
    // As listeners, so that an error in one of them does not stop the client.
    for (const type of /** @type {const} */ (["open", "message", "error", "close"]))
      super.addEventListener(type, (event) => this[`on${type}`]?.(/** @type {any} */ (event)));
  }

  /** The absolute URL of the realtime server, without a ticket; "" before it is known. */
  get url() {
    return this.#url?.href ?? "";
  }

  /** CONNECTING also between two attempts, CLOSED only at the end. */
  get readyState() {
    return this.#phase === "open" ? 1 : this.#phase === "closed" ? this.CLOSED : 0;
  }

  /**
   * End it for good. The event `close` is the last one, and no request is made after it.
   *
   * @param {number} [code] 1000, or 3000 to 4999. An EventSource has no use for it.
   * @param {string} [reason]
   * @throws {DOMException} as WebSocket.close()
   */
  close(code = 1000, reason = "") {
    if (this.#phase === "closed") return;
    this.#end(code, reason);
    this.dispatchEvent(closeEventOf(code, reason, true, false));
  }

  /**
   * @internal
   * @param {(
   *   url: URL,
   *   ticket: string,
   *   alive: <E>(listener: (event: E) => void) => (event: E) => void,
   * ) => Pick<WebSocket, "close">} dial Opens a connection. What it listens to goes
   *   through `alive`, which is silent once the attempt is over.
   */
  _start(dial) {
    this.#dial = dial;
    const { signal } = this.#life;
    for (const type of ["online", "visibilitychange", "pagehide", "pageshow"])
      globalThis.addEventListener?.(type, () => this.#hear(type), { signal });
    // Later, so that listeners that are added to the new object get every event.
    queueMicrotask(() => this.#hurry());
  }

  /** @internal */
  _opened() {
    clearTimeout(this.#timer);
    this.#phase = "open";
    // Not at once: a server that accepts and closes would get a request each minDelay.
    this.#timer = setTimeout(() => (this.#failures = 0), this.#options.stableAfter ?? 5000);
    this._heard();
    this.#watch();
    this.#tell("open");
  }

  /** @internal Note that the server has sent something. */
  _heard() {
    this.#heard = Date.now();
    this._silent = false;
  }

  /**
   * @internal
   * @param {{code?: number, reason?: string, wasClean?: boolean}} loss
   * @param {TicketError} [error] where the ticket is what was missing
   */
  _lost({ code = 1006, reason = "", wasClean = false }, error) {
    this.#drop();
    this.#phase = "waiting";
    const { reconnect } = this.#options;
    let pause = NaN;
    if (code === 4401 && !error) {
      pause = this.#readReason(reason);
      // To the libraries that use this class, 4401 would be final.
      if (reconnect === false) {
        code = 1012;
        wasClean = false;
      }
    }
    const event = closeEventOf(code, reason, wasClean, true);
    event.willReconnect =
      reconnect === undefined ? code !== 1000 && !isRefusal(code) : reconnect && reconnect(event);
    if (!event.willReconnect) this.#end();
    if (code === 1006) this.#tell("error");
    // A listener may have called close(), which has told it.
    if (event.willReconnect && /** @type {string} */ (this.#phase) === "closed") return;
    this.dispatchEvent(event);
    if (event.willReconnect) return this.#wait(pause || 0, pause >= 0 && !this.#failures);
    if (isRefusal(code))
      error = new TicketError(`The server refused (${code}).`, { permanent: true, cause: event });
    if (error?.permanent) this.#tell("refused", { error });
  }

  /**
   * Follow the reason of the close code 4401: a text, and then words such as `kind=session`
   * (a logout) and `retry=2.6` (seconds).
   *
   * @param {string} reason
   * @returns {number} how many ms to wait, or NaN if it does not say so
   */
  #readReason(reason) {
    /** @param {string} word */
    const find = (word) => ` ${reason} `.match(` ${word} `)?.[1];
    const pause = 1000 * Math.min(300, Number(find("retry=(\\d+(?:\\.\\d+)?)")));
    // While a change of password is being answered, Django refuses the old cookie.
    this.#memory.doubt = find("kind=(\\S*)") !== "session";
    this.#rest(pause || 0);
    return pause;
  }

  /**
   * Let nothing begin the next attempt before.
   *
   * @param {number} ms
   */
  #rest(ms) {
    this.#memory.after = performance.now() + ms;
  }

  async #connect() {
    const { signal } = (this.#attempt = new AbortController());
    this.#phase = "connecting";
    this.#began = performance.now();
    try {
      this.#tell("connecting", { attempt: this.#failures + 1 });
      const ticket = await this.#getTicket(signal);
      if (signal.aborted) return;
      Object.assign(this.#memory, newMemory());
      this.#transport = this.#dial(/** @type {URL} */ (this.#url), ticket, (listener) => (event) => {
        if (!signal.aborted) listener(event);
      });
      this.#timer = later(this.#options.connectTimeout ?? 10000, () =>
        this._lost({ reason: "timeout" }),
      );
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  /** @param {string | URL} address */
  #resolve(address) {
    const url = resolve(address);
    url.protocol = url.protocol.replace(/ws|http/, this.#scheme);
    this.#url = url;
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  #getTicket(signal) {
    const options = this.#options;
    const { getTicket, timeout = 5000, firstTicketLifetime = 10000 } = options;
    const firstTicket = this.#firstTicket;
    this.#firstTicket = null;
    return within(timeout, signal, async (signal) => {
      if (typeof this.#address === "function") this.#resolve(await this.#address());
      // now() counts from the navigation, which was before Django issued the ticket.
      if (firstTicket && performance.now() < 0.8 * firstTicketLifetime) return firstTicket;
      if (!getTicket) return askForTicket({ ...options, url: options.ticketUrl }, signal);
      const ticket = await getTicket({ signal });
      if (typeof ticket !== "string") throw new TypeError("getTicket() returned none.");
      return ticket;
    });
  }

  /** @param {unknown} cause */
  #fail(cause) {
    const memory = this.#memory;
    const error =
      cause instanceof TicketError
        ? cause
        : // From the constructor of the transport. Its message may quote the ticket.
          new TicketError("The browser cannot open this connection.", { permanent: true });
    const again = error.status === 401 && memory.doubt;
    memory.doubt &&= !again;
    memory.strange = [403, 404].includes(error.status) ? memory.strange + 1 : 0;
    const permanent = (error.permanent =
      !again && (error.permanent || memory.strange >= STRANGE));
    const pause = again ? SECOND_LOOK : (error.retryAfter ?? 0);
    this.#rest(pause);
    if (this.#options.reconnect === false && !again)
      return this._lost({ code: permanent ? 4401 : 1006, reason: error.message }, error);
    this.#drop();
    if (permanent) {
      this.#end();
      this.#tell("refused", { error });
    } else {
      this.#phase = "waiting";
      this.#tell("ticketerror", { error });
      this.#wait(pause, again);
    }
  }

  /**
   * @param {number} pause ms that the server asked for
   * @param {boolean} exact Whether to wait no longer than that.
   */
  #wait(pause, exact) {
    if (this.#phase !== "waiting") return;
    const { minDelay = 500, maxDelay = 20000, random = Math.random } = this.#options;
    const spread = Math.min(maxDelay, minDelay * 2 ** this.#failures++);
    // The sum, so that clients with the same Retry-After do not all come back at once.
    const delay = pause + (exact ? 0 : Math.min(maxDelay, minDelay + random() * spread));
    this.#timer = later(delay, () => this.#connect());
    this.#tell("waiting", { delay, attempt: this.#failures + 1 });
  }

  /** @param {string} type of an event of the page */
  #hear(type) {
    if (type === "pagehide") return this.#hide();
    if (type === "pageshow" && this.#phase === "hidden") this.#phase = "waiting";
    if (type === "visibilitychange" && document.visibilityState !== "visible") return;
    this.#hurry();
    this.#watch(true);
  }

  /** Shorten the pause, as far as minDelay and the server allow. */
  #hurry() {
    if (this.#phase !== "waiting") return;
    const { minDelay = 500, random = Math.random } = this.#options;
    const rest = Math.max(this.#began + minDelay, this.#memory.after) - performance.now();
    clearTimeout(this.#timer);
    if (rest > 0) this.#timer = later(rest + random() * minDelay, () => this.#connect());
    else this.#connect();
  }

  /**
   * Ping the server after a silence, and drop the connection if no answer comes.
   *
   * This looks at the wall clock every second, because timers and performance.now() stand
   * still while a computer sleeps.
   *
   * @param {boolean} [now] Whether to ping without waiting for a silence.
   */
  #watch(now) {
    const { ping } = this.#options;
    if (!ping || this.#phase !== "open") return;
    const { interval = 20000, timeout = 5000, message = "ping" } = ping;
    // A clock that was set back counts as a silence, too.
    const silence = Math.abs(Date.now() - this.#heard);
    /** @type {any} With a _ping(), unless it is an EventSource. */
    const self = this;
    let rest = (this._silent ? timeout : now && self._ping ? 0 : interval) - silence;
    if (rest <= 0) {
      if (this._silent) return this._lost({ reason: "silent" });
      this._heard();
      this._silent = true;
      self._ping?.(message);
      rest = timeout;
    }
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => this.#watch(), Math.min(1000, rest));
  }

  /** Close, so that the server knows, and the page may stay in the bfcache. */
  #hide() {
    if (this.#options.reconnect === false) return this._lost({});
    const transport = this.#transport;
    this.#drop();
    this.#phase = "hidden";
    if (transport) this.dispatchEvent(closeEventOf(1000, "", true, true));
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  #drop(code = 1000, reason = "") {
    this.#transport?.close(code, reason);
    this.#transport = null;
    this.#attempt.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#pingTimer);
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  #end(code, reason) {
    this.#drop(code, reason);
    this.#life.abort();
    this.#phase = "closed";
  }

  /**
   * @param {keyof ConnectionEvents} type
   * @param {object} [properties]
   */
  #tell(type, properties = {}) {
    this.dispatchEvent(eventOf(type, properties));
  }
}

/**
 * A WebSocket that connects by itself, and again after a loss, with a new ticket each
 * time. See ConnectionEvents for its events.
 */
export class RealtimeSocket extends Connection {
  static CLOSING = 2;
  static CLOSED = 3;
  CLOSING = 2;

  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {BinaryType} */
  #binaryType = "blob";
  /** @type {Parameters<WebSocket["send"]>[0][]} */
  #waiting = [];
  #queue;

  /**
   * @param {Address} url ws(s) or http(s), or relative to the page; or a function that
   *   returns it, or a promise of it, and is called for every attempt
   * @param {ConnectionOptions & SocketOptions} [options]
   * @throws {TypeError} when the URL is none
   */
  constructor(url, options = {}) {
    super(url, "ws", options);
    const { carrier, param = "ticket", protocols = [], queue = 0 } = options;
    const { WebSocket = globalThis.WebSocket } = options;
    this.#queue = queue;
    this._start((url, ticket, alive) => {
      /** @type {string[]} */
      const offered = [].concat(/** @type {any} */ (protocols));
      const socket = (this.#socket =
        carrier === "query"
          ? new WebSocket(withQuery(url, { [param]: ticket }), offered)
          : new WebSocket(url.href, ["realtime-ticket.v1", ...offered, `ticket.${ticket}`]));
      socket.binaryType = this.#binaryType;
      socket.onopen = alive(() => {
        this.#flush();
        this._opened();
      });
      socket.onmessage = alive((event) => {
        this._heard();
        this.#flush();
        this.dispatchEvent(copyOf(event));
      });
      socket.onclose = alive((event) => this._lost(event));
      // The ws package of Node.js throws errors that nobody listens to.
      socket.onerror = () => {};
      return socket;
    });
  }

  /**
   * Send a message, or keep it for the next connection while there is none.
   *
   * With `queue` and `ping` it is also kept while a ping waits for its answer. What is still
   * kept at the end is dropped.
   *
   * @param {Parameters<WebSocket["send"]>[0]} data
   * @throws {DOMException} InvalidStateError when more than `queue` would be kept, or at
   *   the end
   */
  send(data) {
    const socket = this.#open;
    // A socket that is closing would lose the message, and a silent one may, too.
    if (socket?.readyState === 1 && !(this._silent && this.#queue)) socket.send(data);
    else if (this.readyState !== 3 && this.#waiting.length < this.#queue)
      this.#waiting.push(data);
    else throw new DOMException("No connection.", "InvalidStateError");
  }

  /**
   * @internal
   * @param {Parameters<WebSocket["send"]>[0]} message
   */
  _ping(message) {
    this.#socket?.send(message);
  }

  /** The subprotocol that the server chose, or "". */
  get protocol() {
    return this.#open?.protocol ?? "";
  }

  /** The extensions that the server chose, or "". */
  get extensions() {
    return this.#open?.extensions ?? "";
  }

  /** The bytes that the browser has not sent yet, without the messages kept by send(). */
  get bufferedAmount() {
    return this.#open?.bufferedAmount ?? 0;
  }

  /** As WebSocket's. It holds for connections to come, too. */
  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    this.#binaryType = type;
    if (this.#socket) this.#socket.binaryType = type;
  }

  get #open() {
    return this.readyState === 1 ? this.#socket : null;
  }

  #flush() {
    for (const data of this.#waiting.splice(0)) this.#socket?.send(data);
  }
}

/**
 * Make a class to be used in place of WebSocket by a library that reconnects by itself.
 *
 * Each of its objects fetches one ticket, connects once, and closes for good on a loss. The
 * code 4401 is for a user whom Django refuses. The 4401 of a server, after which a new
 * ticket helps, becomes 1012, because to most libraries 4401 is final.
 *
 * @param {ConnectionOptions & SocketOptions} [options]
 * @returns {typeof WebSocket}
 */
export function createWebSocketClass(options) {
  const memory = newMemory();
  return /** @type {any} */ (
    class extends RealtimeSocket {
      /**
       * @param {Address} url
       * @param {string | string[]} [protocols]
       */
      constructor(url, protocols = options?.protocols) {
        const more = { protocols, reconnect: /** @type {const} */ (false), memory };
        super(url, { ...options, ...more });
      }
    }
  );
}

/** All others are the server's. */
const OWN_EVENTS =
  "connecting open message close ticketerror waiting refused error".split(" ");

/**
 * Server-sent events, with a new ticket for every connection. See ConnectionEvents for
 * its events, beside the server's own named events.
 *
 * The browser hides why a connection failed: `close` always says 1006. Only an event that
 * someone listens to counts as the last one.
 */
export class RealtimeEventSource extends Connection {
  static CLOSED = 2;
  CLOSED = 2;

  /** @type {EventSource | null} */
  #source = null;
  #types = new Set(["message"]);
  #lastEventId = "";
  /** @type {(event: MessageEvent) => void} */
  #forward = () => {};

  /**
   * @param {Address} url http(s), or relative to the page; or a function that returns it,
   *   or a promise of it, and is called for every attempt
   * @param {ConnectionOptions & EventSourceOptions} [options]
   * @throws {TypeError} when the URL is none
   */
  constructor(url, options = {}) {
    // A server may send its headers with the first event only.
    super(url, "http", { ...options, connectTimeout: options.connectTimeout ?? 60000 });
    const { param = "ticket", lastEventIdParam = "lastEventId" } = options;
    const { withCredentials, EventSource = globalThis.EventSource } = options;
    this._start((url, ticket, alive) => {
      const parameters = { [param]: ticket };
      if (this.#lastEventId) parameters[lastEventIdParam] = this.#lastEventId;
      const target = withQuery(url, parameters);
      const source = (this.#source = new EventSource(
        target,
        /** @type {EventSourceInit} */ ({ withCredentials }),
      ));
      let heard = false; // an id, since the browser's new object knows none from before
      this.#forward = alive((event) => {
        this._heard();
        heard ||= event.lastEventId !== "";
        if (heard) this.#lastEventId = event.lastEventId;
        this.dispatchEvent(copyOf(event));
      });
      for (const type of this.#types) source.addEventListener(type, this.#forward);
      source.onopen = alive(() => this._opened());
      source.onerror = alive(() => {
        // Open: not an error, but the server's event of that name. Otherwise it must be
        // closed, or the browser would come back with the spent ticket.
        if (source.readyState !== 1) this._lost({});
      });
      return source;
    });
  }

  /**
   * @template {keyof ConnectionEvents} K
   * @overload
   * @param {K} type
   * @param {((event: ConnectionEvents[K]) => void) | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @overload
   * @param {string} type
   * @param {((event: MessageEvent) => void) | EventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * Listen to one of ConnectionEvents, or to what the server calls by another name.
   *
   * @param {string} type
   * @param {any} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
    if (OWN_EVENTS.includes(type)) return;
    this.#types.add(type);
    this.#source?.addEventListener(type, this.#forward);
  }
}
