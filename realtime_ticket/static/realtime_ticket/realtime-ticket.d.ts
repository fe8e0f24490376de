/**
 * Connect a page to a realtime server with tickets of django-realtime-ticket.
 *
 * A ticket works once and for seconds, so every attempt to connect fetches a new one.
 * All durations are milliseconds.
 *
 * @module
 */
export type TicketOptions = {
    /**
     * Where Django issues tickets, on the page's own origin:
     * "/ticket/".
     */
    url?: string;
    /**
     * Django's CSRF token, the
     * element that holds it, or a function that returns either. It is read for every
     * ticket, because a login changes it. Default: the cookie, or else the page's field
     * csrfmiddlewaretoken.
     */
    csrfToken?: CsrfToken | (() => CsrfToken | null);
    /**
     * The name of that cookie: "csrftoken".
     */
    csrfCookie?: string;
    /**
     * Who the ticket is for.
     */
    audience?: string;
    /**
     * How long to wait for a ticket: 5000.
     */
    timeout?: number;
    /**
     * Stops the waiting.
     */
    signal?: AbortSignal;
    /**
     * Used in place of the browser's.
     */
    fetch?: typeof globalThis.fetch;
};
export type CsrfToken = string | Element | {
    value?: string;
    content?: string;
};
export type ConnectionOptions = {
    /**
     * See TicketOptions.url.
     */
    ticketUrl?: string;
    /**
     * See TicketOptions.
     */
    csrfToken?: TicketOptions["csrfToken"];
    /**
     * See TicketOptions.
     */
    csrfCookie?: string;
    /**
     * See TicketOptions.
     */
    audience?: string;
    /**
     * How long to wait for a ticket: 5000.
     */
    timeout?: number;
    /**
     * Used in place of the browser's.
     */
    fetch?: typeof globalThis.fetch;
    /**
     * Used in place of
     * fetchTicket(). What it throws is a reason to try again later, but a permanent
     * TicketError is one to stop.
     */
    getTicket?: (signal: AbortSignal) => Promise<string>;
    /**
     * The ticket in the page itself,
     * `{{ realtime_ticket|default_if_none:'' }}`. It serves the first attempt, if the page is young enough.
     */
    firstTicket?: string | null;
    /**
     * REALTIME_TICKET_EXPIRE in ms: 10000.
     */
    firstTicketLifetime?: number;
    /**
     * The query parameter of the ticket: "ticket".
     */
    param?: string;
    /**
     * The least time between two attempts: 500.
     */
    minDelay?: number;
    /**
     * The most time to wait before an attempt, unless Django
     * asks for more by Retry-After: 20000.
     */
    maxDelay?: number;
    /**
     * How long a connection has to last before the next
     * loss of it is taken for a first one: 5000.
     */
    stableAfter?: number;
    /**
     * How long to wait for the server to accept: 10000.
     */
    connectTimeout?: number;
    /**
     * Whether to connect again
     * after this loss. Default: after all but the codes 1000, 4403 and 4500 to 4999.
     */
    reconnect?: (event: CloseEventLike) => boolean;
    /**
     * Used in place of Math.random.
     */
    random?: () => number;
};
export type SocketOptions = {
    /**
     * Where the ticket travels: "subprotocol".
     */
    carrier?: "subprotocol" | "query";
    /**
     * Subprotocols of the application.
     */
    protocols?: string[];
    /**
     * How many messages send() keeps while there is no
     * connection: 0.
     */
    queue?: number;
    /**
     * Used in
     * place of the browser's.
     */
    WebSocket?: new (url: string, protocols: string[]) => WebSocket;
};
export type EventSourceOptions = {
    /**
     * The query parameter for the id of the last
     * event that was heard: "lastEventId".
     */
    lastEventIdParam?: string;
    /**
     * Send cookies to another origin: false.
     */
    withCredentials?: boolean;
    /**
     * Used
     * in place of the browser's.
     */
    EventSource?: new (url: string, init: EventSourceInit) => EventSource;
};
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
     * is 401, say; or by the realtime server, after a `close` with 4403 or 4500 to 4999.
     */
    refused: TicketErrorEvent;
};
export type ConnectionTarget = {
    addEventListener<K extends keyof ConnectionEvents>(type: K, listener: ((event: ConnectionEvents[K]) => void) | null, options?: boolean | AddEventListenerOptions): void;
    removeEventListener(type: string, listener: ((event: any) => void) | EventListenerObject | null, options?: boolean | EventListenerOptions): void;
} & EventTarget;
/** Say why there is no ticket. */
export declare class TicketError extends Error {
    /** The HTTP status, or 0 without one: network, timeout, abort. */
    status: number;
    /** How many ms Django asks to wait, or null. */
    retryAfter: number | null;
    /** Whether it is useless to try again. */
    permanent: boolean;
    /**
     * @param {string} message
     * @param {{status?: number, retryAfter?: number | null, permanent?: boolean,
     *   cause?: unknown}} [info]
     */
    constructor(message: string, { status, retryAfter, permanent, cause }?: {
        status?: number;
        retryAfter?: number | null;
        permanent?: boolean;
        cause?: unknown;
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
export declare function fetchTicket(options?: TicketOptions): Promise<string>;
declare const Connection_base: new () => ConnectionTarget;
/** The life that both kinds of connection lead: ticket, connection, loss, pause. */
declare class Connection extends /** @type {new () => ConnectionTarget} */ /** @type {new () => ConnectionTarget} */ Connection_base {
    #private;
    /**
     * @param {URL} url
     * @param {ConnectionOptions} options
     */
    constructor(url: URL, options: ConnectionOptions);
    /** The absolute URL of the realtime server, without a ticket. */
    get url(): string;
    /** As WebSocket's: 1 while open, 3 at the end, and else 0, also between attempts. */
    get readyState(): 0 | 1 | 3;
    /**
     * End it for good. The event `close` is the last that is heard, and no request is made
     * any more.
     *
     * @param {number} [code] 1000, or 3000 to 4999. An EventSource has no use for it.
     * @param {string} [reason]
     * @throws {DOMException} as WebSocket.close()
     */
    close(code?: number, reason?: string): void;
}
/**
 * A WebSocket that connects by itself, and again after a loss, with a new ticket each
 * time. See ConnectionEvents for what it tells.
 */
export declare class RealtimeSocket extends Connection {
    #private;
    /**
     * @param {string | URL} url ws(s) or http(s), or relative to the page
     * @param {ConnectionOptions & SocketOptions} [options]
     * @throws {TypeError} when the URL is none
     */
    constructor(url: string | URL, options?: ConnectionOptions & SocketOptions);
    /**
     * Send a message, or keep it for the next connection while there is none.
     *
     * What is still kept at the end is thrown away.
     *
     * @param {Parameters<WebSocket["send"]>[0]} data
     * @throws {DOMException} InvalidStateError when more than `queue` would be kept, or at
     *   the end
     */
    send(data: Parameters<WebSocket["send"]>[0]): void;
    /** The subprotocol that the server chose, or "". */
    get protocol(): string;
    /** The bytes that the browser has not sent yet, without the messages kept by send(). */
    get bufferedAmount(): number;
    /** As WebSocket's. It holds for connections to come, too. */
    get binaryType(): BinaryType;
    set binaryType(type: BinaryType);
}
/**
 * Server-sent events, with a new ticket for every connection. See ConnectionEvents for
 * what it tells, beside the server's own named events.
 *
 * The browser hides why a connection failed: `close` always says 1006. Only an event that
 * someone listens to counts as the last one.
 */
export declare class RealtimeEventSource extends Connection {
    #private;
    /**
     * @param {string | URL} url http(s), or relative to the page
     * @param {ConnectionOptions & EventSourceOptions} [options]
     * @throws {TypeError} when the URL is none
     */
    constructor(url: string | URL, options?: ConnectionOptions & EventSourceOptions);
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
