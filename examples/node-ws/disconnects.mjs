/** End connections whose login has ended: read the journal of disconnects in Redis. */

const POLL = 500; // milliseconds between two readings
const LATE = 5000; // milliseconds without a reading, after which nobody is let in
const LIFE = 120; // seconds that an entry stays in the journal
const OVERLAP = 10; // seconds before and after the present that a reading covers
const MEMORY = LIFE + 2 * OVERLAP; // seconds for which a disconnect is remembered
const SLOTS = 4; // beyond the last one that is known, and then twice as many
const KEYS = 500; // in one command
const CODE = 4401;
const MAX_SPREAD = 60; // seconds over which those who are closed in doubt come back

export class Disconnects {
  #mget;
  #open = new Set();
  #heard = new Map(); // disconnects by id, each with when it can be forgotten
  #counts = new Map(); // for each second, one more than the last slot that is known
  #holes = new Set(); // keys of empty slots before a taken one
  #newest = null; // the last key and text: if it is gone, Redis has lost its memory
  #readAt = -Infinity;
  #lostUntil = 0; // tickets that were issued before this may have been revoked unheard

  /** `mget(keys)` resolves to the texts in Redis, and null for a key without one. */
  constructor(mget) {
    this.#mget = mget;
  }

  /** Read now, and then twice a second for as long as the process lives. */
  async start() {
    await this.#read().catch((error) => console.error(`Disconnects: ${error.message}`));
    setTimeout(() => this.start(), POLL).unref();
  }

  /** Return the status to refuse a new connection with, or undefined to let it in. */
  refuses({ id, sid = "", iat }) {
    if (performance.now() - this.#readAt > LATE) return 503;
    if (iat < Math.max(Date.now() / 1000 - LIFE, this.#lostUntil)) return 401;
    const ended = [...this.#heard.values()].some((entry) => concerns(entry, id, sid, iat, 2));
    return ended ? 401 : undefined;
  }

  /** Call `end(code, reason)` when the login ends. Call what is returned when it is over. */
  watch({ id, sid = "", iat }, end) {
    const connection = { id, sid, iat, end };
    this.#open.add(connection);
    return () => this.#open.delete(connection);
  }

  async #read() {
    const started = performance.now();
    const now = Date.now() / 1000;
    const away = (started - this.#readAt) / 1000;
    const isFirst = this.#readAt === -Infinity;
    const texts = await this.#look(now, Math.min(away, LIFE));
    const isLost = this.#newest && texts.get(this.#newest.key) !== this.#newest.text;
    for (const text of texts.values()) {
      const entry = decode(text);
      if (entry && !this.#heard.has(entry.id)) this.#hear(entry, started, away * 1000 > LATE);
    }
    if (isLost || (away > LIFE - OVERLAP && !isFirst)) this.#doubt(now);
    this.#remember(texts, now);
    this.#readAt = started;
  }

  /** Return the texts that the journal has in these seconds, by their keys. */
  async #look(now, away) {
    const texts = new Map();
    let keys = [...this.#holes, ...(this.#newest ? [this.#newest.key] : [])];
    let ranges = [];
    for (let s = Math.floor(now - away) - OVERLAP; s <= now + OVERLAP; s += 1) {
      ranges.push({ second: s, from: this.#counts.get(s) ?? 0, count: SLOTS });
    }
    while (ranges.length > 0) {
      for (const { second, from, count } of ranges) {
        for (let n = from; n < from + count; n += 1) keys.push(keyOf(second, n));
      }
      for (let first = 0; first < keys.length; first += KEYS) {
        const chunk = keys.slice(first, first + KEYS);
        const found = await this.#mget(chunk);
        chunk.forEach((key, n) => found[n] !== null && texts.set(key, found[n]));
      }
      // Not only up to the first empty slot: its writer may have failed.
      ranges = ranges
        .filter(({ second, from, count }) => any(texts, second, from, count))
        .map(({ second, from, count }) => ({ second, from: from + count, count: 2 * count }));
      keys = [];
    }
    return texts;
  }

  #hear(entry, now, isLate) {
    this.#heard.set(entry.id, { ...entry, until: now + MEMORY * 1000 });
    const isOld = isLate || Date.now() / 1000 - entry.at > OVERLAP;
    for (const connection of [...this.#open]) {
      const { id, sid, iat } = connection;
      // One that is open when the disconnect is news is older than it, whatever clocks say.
      if (concerns(entry, id, sid, isOld ? iat : -Infinity, OVERLAP)) {
        // A new ticket of the same user is refused for a while, see refuses().
        this.#end(connection, entry.kind === "session" ? "disconnected kind=session" : "disconnected kind=user retry=3");
      }
    }
  }

  /** Disconnects may have been lost, so every connection proves itself again. */
  #doubt(now) {
    this.#lostUntil = now + OVERLAP; // by Django's clock, which may differ
    this.#newest = null;
    this.#counts.clear();
    const spread = Math.min(this.#open.size / 200, MAX_SPREAD);
    for (const connection of [...this.#open]) {
      const retry = OVERLAP + 1 + Math.random() * spread;
      this.#end(connection, `reconnect kind=doubt retry=${retry.toFixed(1)}`);
    }
  }

  #end(connection, reason) {
    this.#open.delete(connection);
    connection.end(CODE, reason);
  }

  #remember(texts, now) {
    for (const [key, text] of texts) {
      const [second, n] = placeOf(key);
      const count = this.#counts.get(second) ?? 0;
      for (let hole = count; hole < n; hole += 1) this.#holes.add(keyOf(second, hole));
      this.#holes.delete(key);
      this.#counts.set(second, Math.max(count, n + 1));
      this.#newest = { key, text };
    }
    // What no reading will ask for again, or what soon expires, is forgotten.
    const isOlder = (key, seconds) => placeOf(key)[0] < now - seconds;
    if (this.#newest && isOlder(this.#newest.key, LIFE / 2)) this.#newest = null;
    const isOver = ([, { until }]) => until < performance.now();
    for (const [id] of [...this.#heard].filter(isOver)) this.#heard.delete(id);
    for (const key of this.#holes) if (isOlder(key, 3 * OVERLAP)) this.#holes.delete(key);
    for (const second of this.#counts.keys()) {
      if (second < now - LIFE - OVERLAP) this.#counts.delete(second);
    }
  }
}

const keyOf = (second, n) => `off:rt_:${second}:${n}`;
const placeOf = (key) => key.split(":").slice(-2).map(Number);

function any(texts, second, from, count) {
  return Array.from({ length: count }, (_, n) => keyOf(second, from + n)).some((key) => texts.has(key));
}

/** Tell whether a disconnect ends a connection, or refuses a ticket that was issued then. */
export function concerns({ kind, users, session = "", at }, id, sid, iat, tolerance) {
  if (!users.includes(String(id)) || (kind !== "user" && session !== sid)) return false;
  // A session has ended for good. A user may log in again.
  return kind === "session" || iat <= at + tolerance;
}

/** Return the disconnect that a text describes, or null for one that describes none. */
export function decode(text) {
  let entry = null;
  try {
    entry = text.length <= 4096 ? JSON.parse(text) : null;
  } catch {
    return null;
  }
  const isString = (value) => typeof value === "string";
  const good =
    entry !== null &&
    typeof entry === "object" &&
    isString(entry.id) &&
    Number.isSafeInteger(entry.at) &&
    Number.isSafeInteger(entry.expire) &&
    ["session", "sessionless", "user"].includes(entry.kind) &&
    Array.isArray(entry.users) &&
    entry.users.every(isString) &&
    isString(entry.session ?? "") &&
    Boolean(entry.session) === (entry.kind === "session");
  return good ? entry : null;
}
