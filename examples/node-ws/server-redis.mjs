/** Node.js with ws and redis: consume with GETDEL, before the upgrade is answered. */

import { createClient } from "redis";
import { serve } from "./serve.mjs";

const client = createClient({
  url: process.env.REDIS_URL ?? "redis://localhost:6379/0",
  disableOfflineQueue: true, // no queue of clients that wait for Redis to come back
  socket: {
    connectTimeout: 1000,
    reconnectStrategy: (tries) => Math.min(tries * 100, 1000),
  },
});
client.on("error", (error) => console.error(`Redis: ${error.message}`));
await client.connect();

await serve(
  (key) => client.getDel(key),
  (keys) => client.mGet(keys),
);
