/** What a ticket is: its value, and the data that Redis keeps under it. */

const FORMAT = /^rt_[A-Za-z0-9_-]{43}$/;

export function isTicket(value) {
  return FORMAT.test(value);
}

/** Return the claims in the data, or null for what is no ticket's, or another audience's. */
export function open(data, audience = "") {
  if (data === null || data.length > 4096 || /[^\x00-\x7f]/.test(data)) return null;
  let claims;
  try {
    claims = JSON.parse(data, onlyWholeCharacters);
  } catch {
    return null;
  }
  const good =
    claims !== null &&
    typeof claims === "object" &&
    (Number.isSafeInteger(claims.id) || typeof claims.id === "string") &&
    typeof claims.username === "string" &&
    Number.isSafeInteger(claims.iat) &&
    Number.isSafeInteger(claims.exp) &&
    ("aud" in claims ? claims.aud : "") === audience &&
    (!("sid" in claims) || typeof claims.sid === "string");
  return good ? claims : null;
}

/** Half of a surrogate pair is no character, and cannot be sent on. */
function onlyWholeCharacters(key, value) {
  for (const text of [key, value]) {
    if (typeof text === "string" && !text.isWellFormed()) throw new SyntaxError("no text");
  }
  return value;
}
