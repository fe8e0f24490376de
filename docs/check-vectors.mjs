// Check a reader against the test vectors.
// node check-vectors.mjs wire-format-vectors.json ./ticket.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [vectorsPath, readerPath] = process.argv.slice(2);
const vectors = JSON.parse(readFileSync(vectorsPath, "utf8"));
const reader = await import(pathToFileURL(resolve(readerPath)));
let checked = 0;

for (const ticket of vectors.tickets) {
  const { name, value, audience, prefix, hash_keys: hashKeys } = ticket;
  const options = { audience, prefix, hashKeys };
  assert.equal(reader.storageKey(value, options), ticket.key, name);
  const { id, username, iat, exp, aud, ...others } = reader.open(ticket.data, options);
  assert.deepEqual({ id, username, ...others }, ticket.claims, name);
  assert.deepEqual([iat, exp, aud ?? ""], [ticket.iat, ticket.exp, audience], name);
  assert.equal(reader.open(ticket.data, { ...options, audience: "elsewhere" }), null);

  // Like the storage: it gives the data for this key only, and only once.
  const kept = new Map([[ticket.key, ticket.data]]);
  const client = {
    async getDel(key) {
      const data = kept.get(key) ?? null;
      kept.delete(key);
      return data;
    },
  };
  assert.equal(await reader.consume(client, value, { ...options, audience: "elsewhere" }), null);
  assert.equal((await reader.consume(client, value, options)).username, username, name);
  assert.equal(await reader.consume(client, value, options), null, name);
  checked += 1;
}
for (const { name, audience, data, id, username } of vectors.accepted) {
  const ticket = reader.open(data, { audience });
  assert.deepEqual([ticket?.id, ticket?.username], [id, username], name);
  checked += 1;
}
for (const value of vectors.malformed) {
  assert.equal(reader.storageKey(value), null, JSON.stringify(value));
  checked += 1;
}
for (const data of vectors.refused) {
  assert.equal(reader.open(data), null, data);
  checked += 1;
}
console.log(`${checked} vectors agree.`);
