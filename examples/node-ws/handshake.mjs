/** Let in clients with a good ticket: all that a Node.js server needs, without Python. */

import { isTicket, open } from "./ticket.mjs";

export const PROTOCOL = "realtime-ticket.v1"; // echo this one, never the ticket
export const ORIGIN = process.env.ORIGIN ?? "http://127.0.0.1:8000";

const TIMEOUT = 2000; // milliseconds that the storage may take
// Whether a program, or a page that reads events from its own origin, may connect.
const ALLOW_MISSING = true;

/**
 * Return `{ claims }`, or `{ status }` to refuse with: 401, 403, 405 or 503. Never throws.
 *
 * `getdel(key)` resolves to what Redis answers to GETDEL.
 */
export async function judge(request, getdel) {
  if (request.method !== "GET") return { status: 405 }; // a preflight would spend it
  const { origin } = request.headers;
  if (origin === undefined ? !ALLOW_MISSING : origin !== ORIGIN) {
    return { status: 403 };
  }
  const tickets = new Set([...shown(request)].filter(Boolean));
  const [ticket] = tickets;
  // Nothing else reaches Redis, so a client's string can name no other key. Two tickets
  // are refused: a server must not choose who the client is.
  if (tickets.size !== 1 || !isTicket(ticket)) {
    return { status: 401 };
  }
  let timer;
  try {
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("Redis does not answer")), TIMEOUT);
    });
    const claims = open(await Promise.race([getdel(ticket), late]));
    return claims ? { claims } : { status: 401 };
  } catch {
    return { status: 503 }; // spent or not: the client needs a new one
  } finally {
    clearTimeout(timer);
  }
}

function* shown({ headers, url }) {
  for (const name of (headers["sec-websocket-protocol"] ?? "").split(",")) {
    if (name.trim().startsWith("ticket.")) yield name.trim().slice("ticket.".length);
  }
  const query = url.split("?").slice(1).join("?");
  yield* new URLSearchParams(query).getAll("ticket");
  yield /^ticket +(.+)$/i.exec(headers.authorization ?? "")?.[1].trim();
}
