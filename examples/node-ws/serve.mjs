/** The chat: a WebSocket at /ws, and server-sent events at /events. */

import { createServer, STATUS_CODES } from "node:http";
import { WebSocketServer } from "ws";
import { Disconnects } from "./disconnects.mjs";
import { judge, ORIGIN, PROTOCOL } from "./handshake.mjs";

const PORT = Number(process.env.PORT ?? 8001);
const PING = 30; // seconds, after which a client that does not answer is taken for gone

export async function serve(getdel, mget) {
  const disconnects = new Disconnects(mget);
  await disconnects.start();

  const websockets = new WebSocketServer({
    noServer: true,
    maxPayload: 2 ** 16,
    handleProtocols: (offered) => offered.has(PROTOCOL) && PROTOCOL,
  });

  const server = createServer(async (request, response) => {
    if (pathOf(request) !== "/events") return response.writeHead(404).end();
    const { claims, status } = await judge(request, getdel);
    const refused = claims ? disconnects.refuses(claims) : status;
    if (refused) return response.writeHead(refused).end();
    if (response.destroyed) return; // its client has left, and "close" will not come
    response.on("close", disconnects.watch(claims, () => response.end()));
    response.writeHead(200, {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-store",
      "Access-Control-Allow-Origin": ORIGIN,
    });
    response.write(": connected\n\n"); // headers leave with the first byte
    response.write(`data: Hello, ${claims.username}!\n\n`);
  });

  server.on("upgrade", async (request, socket, head) => {
    socket.on("error", () => socket.destroy()); // or it would end the process
    if (pathOf(request) !== "/ws") return refuse(socket, 404);
    const { claims, status } = await judge(request, getdel);
    const refused = claims ? disconnects.refuses(claims) : status;
    if (refused) return refuse(socket, refused);
    websockets.handleUpgrade(request, socket, head, (websocket) => {
      const end = (code, reason) => {
        websocket.removeAllListeners("message"); // whatever its client still sends
        websocket.close(code, reason);
      };
      websocket.on("close", disconnects.watch(claims, end));
      chat(websocket, claims.username);
    });
  });

  server.listen(PORT, "127.0.0.1");
}

function chat(websocket, name) {
  websocket.on("error", () => websocket.terminate()); // or it would end the process
  websocket.send(`Hello, ${name}!`);
  websocket.on("message", (text) => websocket.send(`${name}: ${text}`));
  ping(websocket);
}

function ping(websocket) {
  let isThere = true;
  websocket.on("pong", () => (isThere = true));
  const timer = setInterval(() => {
    if (!isThere) return websocket.terminate();
    isThere = false;
    websocket.ping();
  }, PING * 1000);
  websocket.on("close", () => clearInterval(timer));
}

function refuse(socket, status) {
  socket.once("finish", () => socket.destroy()); // whether or not the client hangs up
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n` +
      "Connection: close\r\nContent-Length: 0\r\n\r\n",
  );
}

function pathOf(request) {
  return request.url.split("?")[0];
}
