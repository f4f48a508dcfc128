// Calls on one socket, each a promise; `signal` is that of an AbortController.
function caller(socket) {
  const waiting = new Map();
  let last = 0;
  socket.addEventListener("message", (event) => {
    const reply = JSON.parse(event.data);
    waiting.get(reply.id)?.(reply);
    waiting.delete(reply.id);
  });
  return (method, url, {signal, ...keys} = {}) =>
    new Promise((resolve) => {
      const id = ++last;
      waiting.set(id, resolve);
      socket.send(JSON.stringify({method, url, id, ...keys}));
      signal?.addEventListener("abort", () => {
        if (waiting.has(id)) socket.send(JSON.stringify({method: "CANCEL", id}));
      });
    });
}

const socket = new WebSocket("ws://127.0.0.1:8080/");
socket.addEventListener("open", async () => {
  const call = caller(socket);
  const signal = AbortSignal.timeout(100);
  const cancelled = await call("GET", "/reports/long", {signal});
  const late = await call("GET", "/reports/long", {timeout: 0.1});
  const made = await call("GET", "/reports/short");
  console.log(cancelled.status, late.status, made.data);
});
