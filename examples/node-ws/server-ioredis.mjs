/** Node.js with ws and ioredis: consume with GETDEL, before the upgrade is answered. */

import { once } from "node:events";
import { Redis } from "ioredis";
import { serve } from "./serve.mjs";

const client = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379/0", {
  enableOfflineQueue: false, // no queue of clients that wait for Redis to come back
  // A GETDEL that is sent twice turns a lost reply into a false refusal.
  autoResendUnfulfilledCommands: false,
  commandTimeout: 1000,
  connectTimeout: 1000,
  retryStrategy: (tries) => Math.min(tries * 100, 1000),
});
client.on("error", (error) => console.error(`Redis: ${error.message}`));
await once(client, "ready");

await serve(
  (key) => client.getdel(key),
  (keys) => client.mget(keys),
);
