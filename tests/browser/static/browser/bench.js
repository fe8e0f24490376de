// Connect as a test says, and keep what the connections tell.

import * as client from "django-realtime-ticket";

const TYPES = "connecting open message price close ticketerror waiting refused".split(" ");

window.connections = [];
window.heard = [];

window.connect = (kind, url, options = {}) => {
  const connection = new client[kind](url, options);
  const number = connections.push(connection) - 1;
  for (const type of TYPES)
    connection.addEventListener(type, (event) => {
      const { attempt, delay, code, willReconnect, data, lastEventId, error } = event;
      heard.push({
        type, number, at: performance.now(),
        attempt, delay, code, willReconnect, data, lastEventId,
        status: error?.status, permanent: error?.permanent,
      });
    });
};

document.documentElement.dataset.ready = "";
