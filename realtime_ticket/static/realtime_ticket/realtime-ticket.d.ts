/**
 * Connect a page to a realtime server with tickets of django-realtime-ticket.
 *
 * A ticket works once and lives for seconds, so every attempt to connect fetches a new one.
 * All durations are milliseconds.
 *
 * @module
 */
export type TicketOptions = {
    /**
     * Where Django issues tickets: "/ticket/".
     */
    url?: string | undefined;
    /**
     * "include" if that is on
     * another origin than the page: cookies are sent there, and CORS must allow it.
     * Default: "same-origin".
     */
    credentials?: "same-origin" | "include" | undefined;
    /**
     * Django's CSRF token, the element that holds it, or a function
     * that returns either. It is read for every request, because a login changes it.
     * Default: the cookie, and the page's field csrfmiddlewaretoken if Django refuses it.
     */
    csrfToken?: CsrfToken | (() => CsrfToken | null | Promise<CsrfToken | null>) | undefined;
    /**
     * CSRF_COOKIE_NAME: "csrftoken".
     */
    csrfCookie?: string | undefined;
    /**
     * CSRF_HEADER_NAME as a browser writes it:
     * "X-CSRFToken".
     */
    csrfHeader?: string | undefined;
    /**
     * Who the ticket is for.
     */
    audience?: string | undefined;
    /**
     * How long to wait for a ticket: 5000.
     */
    timeout?: number | undefined;
    /**
     * Stops the waiting.
     */
    signal?: AbortSignal | undefined;
    /**
     * Used in place of the browser's.
     */
    fetch?: typeof globalThis.fetch | undefined;
};
export type CsrfToken = string | {
    getAttribute(name: string): string | null;
} | {
    value?: string;
    content?: string;
};
export type ConnectionOptions = {
    /**
     * See TicketOptions.url.
     */
    ticketUrl?: string | undefined;
    /**
     * See TicketOptions.
     */
    credentials?: TicketOptions["credentials"];
    /**
     * See TicketOptions.
     */
    csrfToken?: TicketOptions["csrfToken"];
    /**
     * See TicketOptions.
     */
    csrfCookie?: string | undefined;
    /**
     * See TicketOptions.
     */
    csrfHeader?: string | undefined;
    /**
     * See TicketOptions.
     */
    audience?: string | undefined;
    /**
     * How long to wait for a ticket, and for the URL
     * if that is a function: 5000.
     */
    timeout?: number | undefined;
    /**
     * Used in place of the browser's.
     */
    fetch?: typeof globalThis.fetch | undefined;
    /**
     * Used in place of fetchTicket(). The client tries again after
     * what it throws, but ends after a permanent TicketError.
     */
    getTicket?: ((context: {
        signal: AbortSignal;
    }) => string | Promise<string>) | undefined;
    /**
     * The ticket in the page itself,
     * `{{ realtime_ticket|default_if_none:'' }}`. It serves the first attempt, if the page is
     * young enough.
     */
    firstTicket?: string | null | undefined;
    /**
     * REALTIME_TICKET_EXPIRE in ms: 10000.
     */
    firstTicketLifetime?: number | undefined;
    /**
     * The query parameter of the ticket: "ticket".
     */
    param?: string | undefined;
    /**
     * Notice a connection that died silently.
     * Default: off.
     */
    ping?: Ping | undefined;
    /**
     * The least time between two attempts: 500.
     */
    minDelay?: number | undefined;
    /**
     * The most time to wait before an attempt, unless
     * the server asks for more: 20000.
     */
    maxDelay?: number | undefined;
    /**
     * How long a connection has to last before the
     * delays start from minDelay again: 5000.
     */
    stableAfter?: number | undefined;
    /**
     * How long to wait for the server to accept:
     * 10000, and 60000 for an EventSource.
     */
    connectTimeout?: number | undefined;
    /**
     * Whether to
     * connect again after this loss. Default: after all but the codes 1000, 4403 and 4500 to
     * 4999. False: never, as a plain WebSocket; then a missing ticket is a loss, too.
     */
    reconnect?: false | ((event: CloseEventLike) => boolean) | undefined;
    /**
     * Used in place of Math.random.
     */
    random?: (() => number) | undefined;
};
export type Ping = {
    /**
     * 20000
     */
    interval?: number | undefined;
    /**
     * 5000
     */
    timeout?: number | undefined;
    /**
     * What the server answers
     * with any message: "ping".
     */
    message?: Parameters<WebSocket["send"]>[0] | undefined;
};
export type SocketOptions = {
    /**
     * Where the ticket travels:
     * "subprotocol".
     */
    carrier?: "subprotocol" | "query" | undefined;
    /**
     * Subprotocols of the application.
     */
    protocols?: string | string[] | undefined;
    /**
     * How many messages send() keeps while there is no
     * connection: 0.
     */
    queue?: number | undefined;
    /**
     * Used in place of the browser's.
     */
    WebSocket?: (new (url: string, protocols: string[]) => WebSocket) | undefined;
};
export type EventSourceOptions = {
    /**
     * The query parameter for the id of the
     * last event: "lastEventId".
     */
    lastEventIdParam?: string | undefined;
    /**
     * Send cookies to another origin: false.
     */
    withCredentials?: boolean | undefined;
    /**
     * Used in place of the browser's.
     */
    EventSource?: (new (url: string, init: EventSourceInit) => EventSource) | undefined;
};
export type Address = string | URL | (() => string | URL | Promise<string | URL>);
export type ConnectingEvent = Event & {
    attempt: number;
};
export type WaitingEvent = Event & {
    delay: number;
    attempt: number;
};
export type TicketErrorEvent = Event & {
    error: TicketError;
};
export type CloseEventLike = Event & {
    code: number;
    reason: string;
    wasClean: boolean;
    willReconnect: boolean;
};
export type ConnectionEvents = {
    /**
     * An attempt begins. `attempt` counts from 1
     * since the last stable connection.
     */
    connecting: ConnectingEvent;
    /**
     * The server has accepted.
     */
    open: Event;
    /**
     * As the browser's own.
     */
    message: MessageEvent;
    /**
     * Before `close` with the code 1006: no side closed it.
     */
    error: Event;
    /**
     * A connection is lost or was not accepted.
     */
    close: CloseEventLike;
    /**
     * No ticket this time.
     */
    ticketerror: TicketErrorEvent;
    /**
     * The next attempt begins in `delay` ms.
     */
    waiting: WaitingEvent;
    /**
     * Access is denied: by Django, where `error.status`
     * is 401 for example; or by the realtime server, after a `close` with 4403 or 4500 to 4999.
     */
    refused: TicketErrorEvent;
};
export type ConnectionTarget = {
    addEventListener<K extends keyof ConnectionEvents>(type: K, listener: ((event: ConnectionEvents[K]) => void) | null, options?: boolean | AddEventListenerOptions): void;
    removeEventListener(type: string, listener: ((event: any) => void) | EventListenerObject | null, options?: boolean | EventListenerOptions): void;
} & EventTarget;
/** Why there is no ticket. */
export declare class TicketError extends Error {
    /** The HTTP status, or 0 without one: network, timeout, abort. */
    status: number;
    /** How many ms Django asks to wait, or null. */
    retryAfter: number | null;
    /** Whether it is useless to try again. */
    permanent: boolean;
    /**
     * @param {string} message
     * @param {{status?: number | undefined, retryAfter?: number | null | undefined,
     *   permanent?: boolean | undefined, cause?: unknown}} [info]
     */
    constructor(message: string, { status, retryAfter, permanent, cause }?: {
        status?: number | undefined;
        retryAfter?: number | null | undefined;
        permanent?: boolean | undefined;
        cause?: unknown;
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
export declare function fetchTicket(options?: TicketOptions): Promise<string>;
declare const Connection_base: new () => ConnectionTarget;
/** What both kinds of connection do: ticket, connection, loss, pause. */
declare class Connection extends /** @type {new () => ConnectionTarget} */ /** @type {new () => ConnectionTarget} */ Connection_base {
    #private;
    static CONNECTING: number;
    static OPEN: number;
    CONNECTING: number;
    OPEN: number;
    CLOSED: number;
    /** @type {((event: Event) => void) | null} */
    onopen: ((event: Event) => void) | null;
    /** @type {((event: MessageEvent) => void) | null} */
    onmessage: ((event: MessageEvent) => void) | null;
    /** @type {((event: Event) => void) | null} */
    onerror: ((event: Event) => void) | null;
    /** @type {((event: CloseEventLike) => void) | null} */
    onclose: ((event: CloseEventLike) => void) | null;
    /**
     * @param {Address} address
     * @param {"ws" | "http"} scheme
     * @param {ConnectionOptions} options
     */
    constructor(address: Address, scheme: "ws" | "http", options: ConnectionOptions);
    /** The absolute URL of the realtime server, without a ticket; "" before it is known. */
    get url(): string;
    /** CONNECTING also between two attempts, CLOSED only at the end. */
    get readyState(): number;
    /**
     * End it for good. The event `close` is the last one, and no request is made after it.
     *
     * @param {number} [code] 1000, or 3000 to 4999. An EventSource has no use for it.
     * @param {string} [reason]
     * @throws {DOMException} as WebSocket.close()
     */
    close(code?: number, reason?: string): void;
}
/**
 * A WebSocket that connects by itself, and again after a loss, with a new ticket each
 * time. See ConnectionEvents for its events.
 */
export declare class RealtimeSocket extends Connection {
    #private;
    static CLOSING: number;
    static CLOSED: number;
    CLOSING: number;
    /**
     * @param {Address} url ws(s) or http(s), or relative to the page; or a function that
     *   returns it, or a promise of it, and is called for every attempt
     * @param {ConnectionOptions & SocketOptions} [options]
     * @throws {TypeError} when the URL is none
     */
    constructor(url: Address, options?: ConnectionOptions & SocketOptions);
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
    send(data: Parameters<WebSocket["send"]>[0]): void;
    /** The subprotocol that the server chose, or "". */
    get protocol(): string;
    /** The extensions that the server chose, or "". */
    get extensions(): string;
    /** The bytes that the browser has not sent yet, without the messages kept by send(). */
    get bufferedAmount(): number;
    /** As WebSocket's. It holds for connections to come, too. */
    get binaryType(): BinaryType;
    set binaryType(type: BinaryType);
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
export declare function createWebSocketClass(options?: ConnectionOptions & SocketOptions): typeof WebSocket;
/**
 * Server-sent events, with a new ticket for every connection. See ConnectionEvents for
 * its events, beside the server's own named events.
 *
 * The browser hides why a connection failed: `close` always says 1006. Only an event that
 * someone listens to counts as the last one.
 */
export declare class RealtimeEventSource extends Connection {
    #private;
    static CLOSED: number;
    CLOSED: number;
    /**
     * @param {Address} url http(s), or relative to the page; or a function that returns it,
     *   or a promise of it, and is called for every attempt
     * @param {ConnectionOptions & EventSourceOptions} [options]
     * @throws {TypeError} when the URL is none
     */
    constructor(url: Address, options?: ConnectionOptions & EventSourceOptions);
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
    addEventListener<K extends keyof ConnectionEvents>(type: K, listener: ((event: ConnectionEvents[K]) => void) | null, options?: boolean | AddEventListenerOptions): void;
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
    addEventListener(type: string, listener: ((event: MessageEvent) => void) | EventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}
export {};
