import { Centrifuge } from "centrifuge";
import { fetchTicket } from "./realtime-ticket.js";

// Called before every connection, the first and those after a disconnect.
async function getData() {
  try {
    return { ticket: await fetchTicket() };
  } catch (error) {
    // Nobody is logged in, say. Anything else passes, and Centrifuge tries again.
    if (error.permanent) throw new Centrifuge.UnauthorizedError(error.message);
    throw error;
  }
}

const centrifuge = new Centrifuge("ws://127.0.0.1:8001/connection/websocket", { getData });
centrifuge.on("connected", ({ client }) => console.log(`Connected as client ${client}.`));
centrifuge.on("disconnected", ({ reason }) => console.log(`Not coming back: ${reason}.`));
centrifuge.connect();
