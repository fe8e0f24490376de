/**
 * Connect a page to a realtime server with tickets of django-realtime-ticket.
 *
 * A ticket works once and for seconds, so every attempt to connect fetches a new one.
 * All durations are milliseconds.
 *
 * @module
 */

/**
 * What fetchTicket() needs to know. All of it is optional.
 *
 * @typedef {object} TicketOptions
 * @property {string} [url] Where Django issues tickets, on the page's own origin:
 *   "/ticket/".
 * @property {CsrfToken | (() => CsrfToken | null)} [csrfToken] Django's CSRF token, the
 *   element that holds it, or a function that returns either. It is read for every
 *   ticket, because a login changes it. Default: the cookie, or else the page's field
 *   csrfmiddlewaretoken.
 * @property {string} [csrfCookie] The name of that cookie: "csrftoken".
 * @property {string} [audience] Who the ticket is for.
 * @property {number} [timeout] How long to wait for a ticket: 5000.
 * @property {AbortSignal} [signal] Stops the waiting.
 * @property {typeof globalThis.fetch} [fetch] Used in place of the browser's.
 */

/** @typedef {string | Element | {value?: string, content?: string}} CsrfToken */

/**
 * What both kinds of connection need to know. All of it is optional.
 *
 * @typedef {object} ConnectionOptions
 * @property {string} [ticketUrl] See TicketOptions.url.
 * @property {TicketOptions["csrfToken"]} [csrfToken] See TicketOptions.
 * @property {string} [csrfCookie] See TicketOptions.
 * @property {string} [audience] See TicketOptions.
 * @property {number} [timeout] How long to wait for a ticket: 5000.
 * @property {typeof globalThis.fetch} [fetch] Used in place of the browser's.
 * @property {(signal: AbortSignal) => Promise<string>} [getTicket] Used in place of
 *   fetchTicket(). What it throws is a reason to try again later, but a permanent
 *   TicketError is one to stop.
 * @property {string | null} [firstTicket] The ticket in the page itself,
 *   `{{ realtime_ticket|default_if_none:'' }}`. It serves the first attempt, if the page is young enough.
 * @property {number} [firstTicketLifetime] REALTIME_TICKET_EXPIRE in ms: 10000.
 * @property {string} [param] The query parameter of the ticket: "ticket".
 * @property {number} [minDelay] The least time between two attempts: 500.
 * @property {number} [maxDelay] The most time to wait before an attempt, unless Django
 *   asks for more by Retry-After: 20000.
 * @property {number} [stableAfter] How long a connection has to last before the next
 *   loss of it is taken for a first one: 5000.
 * @property {number} [connectTimeout] How long to wait for the server to accept: 10000.
 * @property {(event: CloseEventLike) => boolean} [reconnect] Whether to connect again
 *   after this loss. Default: after all but the codes 1000, 4403 and 4500 to 4999.
 * @property {() => number} [random] Used in place of Math.random.
 */

/**
 * @typedef {object} SocketOptions
 * @property {"subprotocol" | "query"} [carrier] Where the ticket travels: "subprotocol".
 * @property {string[]} [protocols] Subprotocols of the application.
 * @property {number} [queue] How many messages send() keeps while there is no
 *   connection: 0.
 * @property {new (url: string, protocols: string[]) => WebSocket} [WebSocket] Used in
 *   place of the browser's.
 */

/**
 * @typedef {object} EventSourceOptions
 * @property {string} [lastEventIdParam] The query parameter for the id of the last
 *   event that was heard: "lastEventId".
 * @property {boolean} [withCredentials] Send cookies to another origin: false.
 * @property {new (url: string, init: EventSourceInit) => EventSource} [EventSource] Used
 *   in place of the browser's.
 */

/** @typedef {Event & {attempt: number}} ConnectingEvent */
/** @typedef {Event & {delay: number, attempt: number}} WaitingEvent */
/** @typedef {Event & {error: TicketError}} TicketErrorEvent */
/**
 * @typedef {Event & {code: number, reason: string, wasClean: boolean,
 *   willReconnect: boolean}} CloseEventLike
 */

/**
 * The events of a connection, in the order in which an attempt meets them.
 *
 * A connection has ended with `refused`, or with `close` where `willReconnect` is false.
 *
 * @typedef {object} ConnectionEvents
 * @property {ConnectingEvent} connecting An attempt begins. `attempt` counts from 1
 *   since the last stable connection.
 * @property {Event} open The server has accepted.
 * @property {MessageEvent} message As the browser's own.
 * @property {CloseEventLike} close A connection is lost or was not accepted.
 * @property {TicketErrorEvent} ticketerror No ticket this time.
 * @property {WaitingEvent} waiting The next attempt begins in `delay` ms.
 * @property {TicketErrorEvent} refused Access is denied: by Django, where `error.status`
 *   is 401, say; or by the realtime server, after a `close` with 4403 or 4500 to 4999.
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

/** What setTimeout() takes. It fires at once after more. */
const LONGEST = 2 ** 31 - 1;

/** Say why there is no ticket. */
export class TicketError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, retryAfter?: number | null, permanent?: boolean,
   *   cause?: unknown}} [info]
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
        cause instanceof TicketError
          ? cause
          : new TicketError("The request for a ticket failed.", { cause }),
      );
    const stop = () => {
      controller.abort();
      fail(new TicketError("The request for a ticket was stopped or took too long."));
    };
    if (signal?.aborted) return stop();
    const timer = setTimeout(stop, timeout);
    signal?.addEventListener("abort", stop);
    (async () => work(controller.signal))()
      .then(resolve, fail)
      .finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
      });
  });
}

/** @param {string} name */
function cookie(name) {
  return globalThis.document?.cookie
    .split("; ")
    .find((pair) => pair.startsWith(name + "="))
    ?.slice(name.length + 1);
}

/**
 * @param {TicketOptions} options
 * @returns {string}
 */
function readCsrfToken({ csrfToken, csrfCookie = "csrftoken" }) {
  /** @type {any} */
  const token =
    (typeof csrfToken === "function" ? csrfToken() : csrfToken) ??
    (cookie(csrfCookie) ||
      globalThis.document?.querySelector("[name=csrfmiddlewaretoken]"));
  return typeof token === "string" ? token : (token?.value ?? token?.content ?? "");
}

/**
 * @param {string | null} header seconds or a date
 * @returns {number | null} ms
 */
function parseRetryAfter(header) {
  const ms = /^\d+$/.test(header ?? "")
    ? Number(header) * 1000
    : Date.parse(header ?? "") - Date.now();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}

/**
 * @param {TicketOptions} options
 * @param {string} csrfToken
 * @param {AbortSignal} signal
 */
function post({ url = "/ticket/", audience, fetch = globalThis.fetch }, csrfToken, signal) {
  return fetch(url, {
    method: "POST",
    mode: "same-origin",
    credentials: "same-origin",
    cache: "no-store",
    redirect: "manual",
    headers: { Accept: "application/json", "X-CSRFToken": csrfToken },
    body: audience === undefined ? null : new URLSearchParams({ audience }),
    signal,
  });
}

/**
 * @param {TicketOptions} options
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
async function askForTicket(options, signal) {
  const token = readCsrfToken(options);
  let response = await post(options, token, signal);
  if (response.status === 403) {
    // Another tab may have logged in meanwhile, which changes the token.
    const fresh = readCsrfToken(options);
    if (fresh !== token) response = await post(options, fresh, signal);
  }
  const { status } = response;
  // No cause and no body in the error: either may quote the ticket.
  const data = response.ok ? await response.json().catch(() => null) : null;
  if (data?.status === "ok" && typeof data.message === "string") return data.message;
  throw new TicketError(`Django gave no ticket (HTTP ${status || "redirect"}).`, {
    status,
    retryAfter: parseRetryAfter(response.headers.get("Retry-After")),
    permanent:
      response.type === "opaqueredirect" ||
      (status >= 300 && status < 400) ||
      [401, 403, 404].includes(status),
  });
}

/**
 * Ask Django for a ticket.
 *
 * @param {TicketOptions} [options]
 * @returns {Promise<string>} the ticket, good for one connection. Rejected with a
 *   TicketError, which is permanent after 401, 403, 404 and a redirect (to a login
 *   page, say).
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
 * @param {Event} event
 * @returns {MessageEvent} one that can be dispatched again
 */
const copyOf = (event) =>
  new MessageEvent(event.type, /** @type {MessageEventInit} */ (event));

/** @param {string | URL} url */
const resolve = (url) => {
  const { document, location } = globalThis;
  const resolved = new URL(url, document?.baseURI ?? location?.href);
  resolved.hash = "";
  return resolved;
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

/** The life that both kinds of connection lead: ticket, connection, loss, pause. */
class Connection extends /** @type {new () => ConnectionTarget} */ (EventTarget) {
  #url;
  #options;
  #firstTicket;
  /** @type {"new" | "connecting" | "open" | "waiting" | "hidden" | "closed"} */
  #phase = "new";
  #failures = 0;
  /** Aborted as soon as this attempt must not be heard any more. */
  #attempt = new AbortController();
  /** Aborted at the end. */
  #life = new AbortController();
  #began = 0;
  /** Until when Django asked to be left alone. */
  #patience = 0;
  /** For the next attempt, or the server's answer, or the connection to be stable.
   * @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Pick<WebSocket, "close"> | null} */
  #transport = null;
  /** @type {Parameters<Connection["_start"]>[0]} */
  #dial = /** @type {any} */ (null); // until _start()

  /**
   * @param {URL} url
   * @param {ConnectionOptions} options
   */
  constructor(url, options) {
    super();
    this.#url = url;
    this.#options = options;
    this.#firstTicket = options.firstTicket;
  }

  /** The absolute URL of the realtime server, without a ticket. */
  get url() {
    return this.#url.href;
  }

  /** As WebSocket's: 1 while open, 3 at the end, and else 0, also between attempts. */
  get readyState() {
    return this.#phase === "open" ? 1 : this.#phase === "closed" ? 3 : 0;
  }

  /**
   * End it for good. The event `close` is the last that is heard, and no request is made
   * any more.
   *
   * @param {number} [code] 1000, or 3000 to 4999. An EventSource has no use for it.
   * @param {string} [reason]
   * @throws {DOMException} as WebSocket.close()
   */
  close(code = 1000, reason = "") {
    if (this.#phase === "closed") return;
    this.#end(code, reason);
    this.#tell("close", { code, reason, wasClean: true, willReconnect: false });
  }

  /**
   * @internal
   * @param {(
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
    // Later, so that listeners that are added to the new object hear everything.
    queueMicrotask(() => this.#phase === "new" && this.#connect());
  }

  /** @internal */
  _opened() {
    clearTimeout(this.#timer);
    this.#phase = "open";
    // Not at once: a server that accepts and hangs up would get a request each minDelay.
    this.#timer = setTimeout(() => (this.#failures = 0), this.#options.stableAfter ?? 5000);
    this.#tell("open", {});
  }

  /**
   * @internal
   * @param {{code?: number, reason?: string, wasClean?: boolean}} loss
   */
  _lost({ code = 1006, reason = "", wasClean = false }) {
    this.#drop();
    this.#phase = "waiting";
    const { reconnect } = this.#options;
    const event = eventOf("close", { code, reason, wasClean, willReconnect: true });
    event.willReconnect = reconnect ? reconnect(event) : code !== 1000 && !isRefusal(code);
    if (!event.willReconnect) this.#end();
    this.dispatchEvent(event);
    if (event.willReconnect) this.#wait();
    else if (isRefusal(code))
      this.#tell("refused", {
        error: new TicketError(`The server refused (${code}).`, {
          permanent: true,
          cause: event,
        }),
      });
  }

  async #connect() {
    const { signal } = (this.#attempt = new AbortController());
    this.#phase = "connecting";
    this.#began = performance.now();
    try {
      this.#tell("connecting", { attempt: this.#failures + 1 });
      const ticket = await this.#getTicket(signal);
      if (signal.aborted) return;
      this.#transport = this.#dial(ticket, (listener) => (event) => {
        if (!signal.aborted) listener(event);
      });
      this.#timer = setTimeout(
        () => this._lost({ reason: "timeout" }),
        this.#options.connectTimeout ?? 10000,
      );
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  async #getTicket(signal) {
    const options = this.#options;
    const { getTicket, timeout = 5000, firstTicketLifetime = 10000 } = options;
    const firstTicket = this.#firstTicket;
    this.#firstTicket = null;
    // now() counts from the navigation, which was before Django issued the ticket.
    if (firstTicket && performance.now() < 0.8 * firstTicketLifetime) return firstTicket;
    return getTicket
      ? within(timeout, signal, getTicket)
      : fetchTicket({ ...options, url: options.ticketUrl, signal });
  }

  /** @param {unknown} cause */
  #fail(cause) {
    this.#drop();
    const error =
      cause instanceof TicketError
        ? cause
        : // From the constructor of the transport. Its message may quote the ticket.
          new TicketError("The browser cannot open this connection.", { permanent: true });
    if (error.permanent) {
      this.#end();
      this.#tell("refused", { error });
    } else {
      this.#phase = "waiting";
      this.#tell("ticketerror", { error });
      this.#wait(error.retryAfter ?? 0);
    }
  }

  /** @param {number} [retryAfter] ms */
  #wait(retryAfter = 0) {
    if (this.#phase !== "waiting") return;
    const { minDelay = 500, maxDelay = 20000, random = Math.random } = this.#options;
    const spread = Math.min(maxDelay, minDelay * 2 ** this.#failures++);
    const backoff = Math.min(maxDelay, minDelay + random() * spread);
    // The sum, so that not all whom Django gave the same second come back in it.
    const delay = Math.min(LONGEST, retryAfter + backoff);
    this.#patience = performance.now() + retryAfter;
    this.#timer = setTimeout(() => this.#retry(), delay);
    this.#tell("waiting", { delay, attempt: this.#failures + 1 });
  }

  /** Connect, unless the browser knows that it is offline: then `online` will come. */
  #retry() {
    if (globalThis.navigator?.onLine !== false) this.#connect();
  }

  /** @param {string} type of an event of the page */
  #hear(type) {
    if (type === "pagehide") this.#hide();
    else if (type === "pageshow") this.#show();
    else if (type === "online" || globalThis.document?.visibilityState === "visible")
      this.#hurry();
  }

  /** Cut the waiting short, as far as minDelay and Retry-After allow. */
  #hurry() {
    if (this.#phase !== "waiting") return;
    const { minDelay = 500, random = Math.random } = this.#options;
    const rest = Math.max(this.#began + minDelay, this.#patience) - performance.now();
    clearTimeout(this.#timer);
    if (rest > 0)
      this.#timer = setTimeout(
        () => this.#retry(),
        Math.min(LONGEST, rest + random() * minDelay),
      );
    else this.#retry();
  }

  /** Hang up, so that the server knows, and the page may stay in the bfcache. */
  #hide() {
    const transport = this.#transport;
    this.#drop();
    this.#phase = "hidden";
    if (transport)
      this.#tell("close", { code: 1000, reason: "", wasClean: true, willReconnect: true });
  }

  #show() {
    if (this.#phase !== "hidden") return;
    this.#phase = "waiting";
    this.#hurry();
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
   * @param {object} properties
   */
  #tell(type, properties) {
    this.dispatchEvent(eventOf(type, properties));
  }
}

/**
 * A WebSocket that connects by itself, and again after a loss, with a new ticket each
 * time. See ConnectionEvents for what it tells.
 */
export class RealtimeSocket extends Connection {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {BinaryType} */
  #binaryType = "blob";
  /** @type {Parameters<WebSocket["send"]>[0][]} */
  #waiting = [];
  #queue;

  /**
   * @param {string | URL} url ws(s) or http(s), or relative to the page
   * @param {ConnectionOptions & SocketOptions} [options]
   * @throws {TypeError} when the URL is none
   */
  constructor(url, options = {}) {
    const resolved = resolve(url);
    resolved.protocol = resolved.protocol.replace("http", "ws");
    super(resolved, options);
    const { carrier, param = "ticket", protocols = [], queue = 0 } = options;
    const { WebSocket = globalThis.WebSocket } = options;
    this.#queue = queue;
    this._start((ticket, alive) => {
      const socket = (this.#socket =
        carrier === "query"
          ? new WebSocket(withQuery(resolved, { [param]: ticket }), protocols)
          : new WebSocket(resolved.href, [
              "realtime-ticket.v1",
              ...protocols,
              `ticket.${ticket}`,
            ]));
      socket.binaryType = this.#binaryType;
      socket.onopen = alive(() => {
        for (const data of this.#waiting.splice(0)) socket.send(data);
        this._opened();
      });
      socket.onmessage = alive((event) => this.dispatchEvent(copyOf(event)));
      socket.onclose = alive((event) => this._lost(event));
      // The ws package of Node.js throws errors that nobody listens to.
      socket.onerror = () => {};
      return socket;
    });
  }

  /**
   * Send a message, or keep it for the next connection while there is none.
   *
   * What is still kept at the end is thrown away.
   *
   * @param {Parameters<WebSocket["send"]>[0]} data
   * @throws {DOMException} InvalidStateError when more than `queue` would be kept, or at
   *   the end
   */
  send(data) {
    const socket = this.#open;
    // A socket that is closing would swallow the message.
    if (socket?.readyState === 1) socket.send(data);
    else if (this.readyState !== 3 && this.#waiting.length < this.#queue)
      this.#waiting.push(data);
    else throw new DOMException("There is no connection.", "InvalidStateError");
  }

  /** The subprotocol that the server chose, or "". */
  get protocol() {
    return this.#open?.protocol ?? "";
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
}

/** The rest are the server's, but for "error", which is how EventSource tells a loss. */
const OWN_EVENTS =
  "connecting open message close ticketerror waiting refused error".split(" ");

/**
 * Server-sent events, with a new ticket for every connection. See ConnectionEvents for
 * what it tells, beside the server's own named events.
 *
 * The browser hides why a connection failed: `close` always says 1006. Only an event that
 * someone listens to counts as the last one.
 */
export class RealtimeEventSource extends Connection {
  /** @type {EventSource | null} */
  #source = null;
  #types = new Set(["message"]);
  #lastEventId = "";
  /** @type {(event: MessageEvent) => void} */
  #forward = () => {};

  /**
   * @param {string | URL} url http(s), or relative to the page
   * @param {ConnectionOptions & EventSourceOptions} [options]
   * @throws {TypeError} when the URL is none
   */
  constructor(url, options = {}) {
    const resolved = resolve(url);
    super(resolved, options);
    const { param = "ticket", lastEventIdParam = "lastEventId" } = options;
    const { withCredentials, EventSource = globalThis.EventSource } = options;
    this._start((ticket, alive) => {
      const parameters = { [param]: ticket };
      if (this.#lastEventId) parameters[lastEventIdParam] = this.#lastEventId;
      const target = withQuery(resolved, parameters);
      const source = (this.#source = new EventSource(target, { withCredentials }));
      let heard = false; // an id, since the browser's new object knows none from before
      this.#forward = alive((event) => {
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
