// Loaded into configurable-http-proxy by `node --require`, before front.cjs: how much of what flows through it waits in it.
//
// Users write servers and clients, and the proxy is everybody's. Whoever does not read, or does not end, costs it a
// bounded number of bytes and descriptors:
// - a slow reader's data waits in the kernel, beyond one piece at each of its streams; small pieces are joined;
// - the answer of a server that refuses a websocket flows as fast as it is read, and no faster;
// - a websocket's connection to its server ends with the client's, whatever the server does;
// - the requests that a client sends without waiting for answers are passed on one after another.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const stream = require("node:stream");
const { createRequire } = require("node:module");

// A stream takes the next piece when the one before has gone on. A piece is what one read(2) brings, at most 64 KiB: large
// files are still passed on at some 500 MB/s. Whatever is less goes on at once to whoever keeps up.
stream.setDefaultHighWaterMark(false, 1);

// What has been read can still be many pieces: a chunk of a body that came with ten thousand others, a record of TLS. Node
// keeps an object for each (300 bytes for a single one), also after it has been told to wait. They are kept in one.
const REST = Symbol("rest");

class Rest {
  constructor() {
    this.bytes = Buffer.allocUnsafeSlow(1024);
    this.length = 0;
  }

  add(piece) {
    const needed = this.length + piece.length;
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(needed)));
      this.bytes.copy(larger, 0, 0, this.length);
      this.bytes = larger;
    }
    piece.copy(this.bytes, this.length);
    this.length = needed;
  }

  joined() {
    return this.bytes.subarray(0, this.length);
  }
}

for (const { prototype } of [http.IncomingMessage, net.Socket]) {
  const { push, _read: read } = prototype;

  const pushRest = (one) => {
    const rest = one[REST];
    one[REST] = undefined;
    return push.call(one, rest.joined());
  };

  prototype.push = function (piece, ...more) {
    if (this.readableLength > 0 && piece instanceof Uint8Array) {
      (this[REST] ||= new Rest()).add(piece);
      return false;
    }
    if (this[REST]) pushRest(this);
    return push.call(this, piece, ...more);
  };

  prototype._read = function (size) {
    if (this[REST]) pushRest(this);
    else read.call(this, size);
  };
}

const LAST_WORDS = 5000; // ms in which a server may take what a client that has gone sent it

function endWith(socket, request) {
  let end = () => {
    request.removeAllListeners("error").on("error", () => {});
    request.destroy();
  };
  request.once("upgrade", (answer, behind) => {
    end = () => {
      behind.destroySoon();
      setTimeout(() => behind.destroy(), LAST_WORDS).unref();
    };
    if (socket.destroyed) end();
  });
  if (socket.destroyed) process.nextTick(() => end());
  else socket.once("close", () => end());
}

// http-proxy-3 (1.23) writes it on without asking whether anybody reads.
function readAsWritten(socket, answer) {
  answer.on("data", () => {
    if (!socket.writableNeedDrain || answer.isPaused()) return;
    answer.pause();
    socket.once("drain", () => answer.resume());
  });
}

const { ProxyServer } = createRequire(fs.realpathSync(process.argv[1]))("http-proxy-3");
const { emit: tell } = ProxyServer.prototype;
ProxyServer.prototype.emit = function (event, ...values) {
  // It tells of a client that resets a websocket, and throws where nobody listens. Errors of servers behind are passed to
  // the function that configurable-http-proxy gives with each request.
  if (event === "error") return true;
  if (event === "proxyReqWs") {
    const [request, , socket] = values;
    request.once("response", (answer) => readAsWritten(socket, answer));
    endWith(socket, request);
  }
  return tell.call(this, event, ...values);
};

// Node reads on while a request has no answer, and would have every one of them passed on at once: thousands of
// connections to a server that does not answer, for one of the client's. No browser and no reverse proxy sends any so.
const MOST_WAITING = 16;
const turns = new WeakMap();

// Calls `go` when the requests before it on this connection have been answered.
function inTurn(socket, response, go) {
  const begin = () => {
    response.once("close", () => {
      const next = turns.get(socket).shift();
      if (next) next();
      else turns.delete(socket);
    });
    return socket.destroyed || go();
  };
  const waiting = turns.get(socket);
  if (waiting && waiting.push(begin) > MOST_WAITING) socket.destroy();
  if (waiting) return true;
  turns.set(socket, []);
  return begin();
}

for (const Server of [http.Server, https.Server]) {
  const { emit } = Server.prototype;
  Server.prototype.emit = function (event, ...values) {
    const go = () => emit.call(this, event, ...values);
    return event === "request" ? inTurn(values[0].socket, values[1], go) : go();
  };
}
