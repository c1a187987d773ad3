// Loaded into configurable-http-proxy by `node --require`, after streams.cjs. It adds what the proxy lacks:
// - forwarded headers are believed from the operator's own reverse proxies only, and are single, right values; on this
//   machine an address does not tell who that is, and the uid of the program does;
// - plain HTTP beyond this machine is for those reverse proxies alone (TIDEHUB_ONLY_TRUSTED=1);
// - a renewed certificate is taken up without dropping a connection;
// - the socket of its API that a killed proxy left is removed, by the user whose directory it lies in;
// - the public socket is the one that the supervisor made and holds (TIDEHUB_LISTEN, see tidehub/listening.py), so that
//   nobody else can have the port while the proxy is away;
// - a port that cannot be listened on ends the process: the proxy itself would log it and stay, deaf;
// - a server's socket is connected to without following a link, and only if it is the directory's owner's;
// - a client that does not finish its headers is cut off; bodies and websockets may take as long as they like;
// - a user of this machine has a number of connections at a time and no more (TIDEHUB_PEERS);
// - no request is lost because a connection that was kept for it is closed in that moment;
// - what a client sends as the body of a request is never read as a request of its own by the servers behind;
// - what people get does not name the servers behind;
// - a user's server says nothing to a browser that would hold for the whole site;
// - who opens a page under another name of this machine is sent to the platform's own address (TIDEHUB_PUBLIC), where
//   their login will be valid.
"use strict";

const { spawn } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { createRequire, syncBuiltinESMExports } = require("node:module");

const FORWARDING = /^(x-tidehub-front|x-forwarded(-.*)?|forwarded|x-real-ip|x-scheme|x-client-ip|true-client-ip)$/;

const apiSocket = process.argv.indexOf("--api-socket");
if (apiSocket > 0) fs.rmSync(process.argv[apiSocket + 1], { force: true });

const trusted = readNetworks(process.env.TIDEHUB_TRUSTED_PROXIES || "");
const onlyTrusted = process.env.TIDEHUB_ONLY_TRUSTED === "1";
const [signIn, proof] = (process.env.TIDEHUB_SIGN_IN || "").split(" ");
const publicOrigin = process.env.TIDEHUB_PUBLIC || "";
const loopback = readNetworks("127.0.0.0/8,::1");

function readNetworks(text) {
  const list = new net.BlockList();
  for (const entry of text.split(",").map((part) => part.trim()).filter(Boolean)) {
    const [address, prefix] = entry.split("/");
    const family = net.isIPv6(address) ? "ipv6" : "ipv4";
    const bits = prefix === undefined ? (family === "ipv6" ? 128 : 32) : Number(prefix);
    list.addSubnet(address, bits, family);
  }
  return list;
}

function plain(address) {
  const text = String(address || "").trim().replace(/^"|"$/g, "");
  const mapped = text.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
  if (net.isIP(mapped)) return mapped;
  const bracketed = /^\[([^\]]+)\](:\d+)?$/.exec(mapped) || /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(mapped);
  return bracketed && net.isIP(bracketed[1]) ? bracketed[1] : "";
}

function isIn(list, address) {
  return address !== "" && list.check(address, net.isIPv6(address) ? "ipv6" : "ipv4");
}

function split(value) {
  return value === undefined ? [] : String(value).split(",").map((part) => part.trim());
}

// RFC 7239: "for=192.0.2.1;proto=https, for=..."; one element a hop.
function readForwarded(value) {
  return split(value).map((element) => {
    const found = {};
    for (const pair of element.split(";")) {
      const at = pair.indexOf("=");
      if (at > 0) found[pair.slice(0, at).trim().toLowerCase()] = pair.slice(at + 1).trim().replace(/^"|"$/g, "");
    }
    return found;
  });
}

// The client as the trusted hops tell it: from the nearest hop outwards, the first that is not one of them.
function believed(headers, peer, scheme) {
  let addresses = split(headers["x-forwarded-for"]);
  let schemes = split(headers["x-forwarded-proto"]);
  if (addresses.length === 0 && schemes.length === 0 && headers.forwarded !== undefined) {
    const hops = readForwarded(headers.forwarded);
    addresses = hops.map((hop) => hop.for || "");
    schemes = hops.map((hop) => hop.proto || "");
  }
  let client = peer;
  let index = addresses.length;
  while (index > 0 && isIn(trusted, client)) {
    const next = plain(addresses[index - 1]);
    if (next === "") break;
    client = next;
    index -= 1;
  }
  // Hops that add to both lists keep them of one length; a hop that sets one value means the last.
  const aligned = schemes.length === addresses.length && index < schemes.length ? index : schemes.length - 1;
  const said = { http: "http", https: "https", ws: "http", wss: "https" }[(schemes[aligned] || "").toLowerCase()];
  return { client, scheme: said || scheme };
}

function portOf(host, scheme) {
  const found = /:(\d+)$/.exec(host || "");
  return found ? found[1] : scheme === "https" ? "443" : "80";
}

function signsIn(request) {
  return Boolean(signIn) && String(request.url).split("?", 1)[0] === signIn;
}

// Whether it matters who of this machine sends a request: any user can connect from where an operator's reverse proxy
// does, and all of them share the address that counts failed sign-ins.
function hangsOnOwner(request) {
  const peer = plain(request.socket.remoteAddress);
  const forwarded = Object.keys(request.headers).some((name) => FORWARDING.test(name));
  return ((forwarded && isIn(trusted, peer)) || signsIn(request)) && isHere(peer);
}

let own = new Set();
let ownAt = -Infinity;
const LOOK_EVERY = 5000;

function isHere(address) {
  if (isIn(loopback, address)) return true;
  if (performance.now() - ownAt > LOOK_EVERY) {
    own = new Set(Object.values(os.networkInterfaces()).flat().map((one) => one.address));
    ownAt = performance.now();
  }
  return own.has(address);
}

// Host and port as a browser sends them for `origin`: lower case, without the scheme's own port.
function hostOf(origin) {
  try {
    return new URL(origin).host;
  } catch (error) {
    return "";
  }
}

// Where a page belongs that was asked for under another name, or "". A reverse proxy may send any name as `Host`: what may
// have come through one is left alone, or it would go round for ever. What is served directly at the public address came
// through none; else an operator's proxy is known by its address, and any other by the headers that it adds.
function properAddress(request) {
  const { method, headers, url } = request;
  if (!publicOrigin || (method !== "GET" && method !== "HEAD") || !url.startsWith("/") || !headers.host) return "";
  const mode = headers["sec-fetch-mode"] || (/\btext\/html\b/.test(headers.accept || "") ? "navigate" : "");
  const peer = plain(request.socket.remoteAddress);
  if (mode !== "navigate" || peer === "" || isIn(trusted, peer)) return "";
  if (Object.keys(headers).some((name) => name === "via" || FORWARDING.test(name))) return "";
  const scheme = request.socket.encrypted ? "https:" : "http:";
  const wanted = new URL(publicOrigin);
  const direct = wanted.protocol === scheme && portOf(wanted.host, scheme.slice(0, -1)) === String(request.socket.localPort);
  const given = hostOf(`${scheme}//${headers.host}`);
  if ((!direct && !process.env.TIDEHUB_TRUSTED_PROXIES) || given === "" || given === wanted.host) return "";
  return wanted.origin + url;
}

function moveTo(location, response) {
  const headers = { Location: location, "Cache-Control": "no-store", "Content-Type": "text/plain; charset=utf-8" };
  response.writeHead(302, headers).end(`This page is at ${location}\n`);
}

// Returns false when the peer may not talk to us at all.
function admit(request) {
  const peer = plain(request.socket.remoteAddress);
  // The proxy's own API listens on a socket in the file system and has no peer address.
  if (peer === "") return true;
  const isTrusted = isIn(trusted, peer) && (!hangsOnOwner(request) || isOperators(request.socket));
  if (onlyTrusted && !isTrusted && !isIn(loopback, peer)) return false;
  const own = request.socket.encrypted ? "https" : "http";
  const told = isTrusted ? believed(request.headers, peer, own) : { client: peer, scheme: own };
  for (const name of Object.keys(request.headers)) {
    if (FORWARDING.test(name)) delete request.headers[name];
  }
  request.headers["x-forwarded-for"] = told.client;
  request.headers["x-forwarded-proto"] = told.scheme;
  request.headers["x-forwarded-port"] = portOf(request.headers.host, told.scheme);
  if (request.headers.host) request.headers["x-forwarded-host"] = request.headers.host;
  // To nobody but the identity provider: it believes the client's address, and uid, of whoever knows this word.
  if (signsIn(request)) {
    const { uid } = (told.client === peer && owners.get(request.socket)) || {};
    request.headers["x-tidehub-front"] = uid ? `${proof} ${uid}` : proof;
  }
  return true;
}

// Whether a connection is kept is said between neighbours (RFC 9110, 7.6.1); the proxy hands on what the server behind
// said of its own. A request whose body was not read to its end leaves the connection unusable.
function keepConnection(request, response) {
  if (request.httpVersion !== "1.1" || !request.complete) return;
  response.removeHeader("keep-alive");
  if (response.shouldKeepAlive) {
    response.setHeader("connection", "keep-alive");
    const seconds = Math.floor(request.socket.server.keepAliveTimeout / 1000);
    if (seconds > 0) response.setHeader("keep-alive", `timeout=${seconds}`);
  } else {
    response.setHeader("connection", "close");
  }
}

const UNSAYABLE = /[^\t\x20-\x7e\x80-\xff]/;

// Users write servers. Node reads a status below 100 and control characters beside it, and then refuses to send them, by
// an exception that nobody catches.
function sayable(response) {
  if (UNSAYABLE.test(response.statusMessage || "")) response.statusMessage = "";
}

// Users' servers have one origin with the hub: what a browser would hold of all of it is not theirs to say. A service
// worker that is allowed everything could answer for the hub's pages, and read passwords, for as long as it likes.
const OF_THE_ORIGIN = ["clear-site-data", "strict-transport-security", "nel", "report-to"];

function usersPlace(url) {
  try {
    // As configurable-http-proxy looks up whose a path is.
    return (/^.*?\/user\/[^/]+(?=\/|$)/.exec(decodeURIComponent(new URL(url, publicOrigin || "http://a").pathname)) || [""])[0];
  } catch (error) {
    return "/";
  }
}

function keepWithin(place, response) {
  for (const name of OF_THE_ORIGIN) response.removeHeader(name);
  if (response.hasHeader("service-worker-allowed")) {
    response.setHeader("service-worker-allowed", `${encodeURI(place)}/`);
  }
}

// The same for the answer to a websocket, which http-proxy-3 writes by itself, from these headers.
for (const { prototype } of process.argv[1] ? [createRequire(fs.realpathSync(process.argv[1]))("http-proxy-3").ProxyServer] : []) {
  const { emit } = prototype;
  prototype.emit = function (event, ...values) {
    if (event === "proxyReqWs") {
      const [asking, { url }] = values;
      const unsaid = ["server", "x-powered-by", ...(usersPlace(url) ? [...OF_THE_ORIGIN, "service-worker-allowed"] : [])];
      const strip = ({ headers }) => unsaid.forEach((name) => delete headers[name]);
      asking.once("response", strip).once("upgrade", strip);
    }
    return emit.call(this, event, ...values);
  };
}

function ownHeaders(request, response) {
  const place = usersPlace(request.url);
  const writeHead = response.writeHead;
  response.writeHead = function (...values) {
    sayable(response);
    // Below 200 nothing is an answer: Node tells of informational ones apart, and of a switch of protocols by an event
    // where one was asked for.
    if (values[0] < 200) {
      values[0] = 502;
      response.removeHeader("content-length"); // of a body that does not come
    }
    response.removeHeader("server");
    response.removeHeader("x-powered-by");
    if (place) keepWithin(place, response);
    // The proxy hands on no trailers, and Node refuses, by such an exception, to announce any beside a length.
    response.removeHeader("trailer");
    keepConnection(request, response);
    return writeHead.apply(response, values);
  };
}

// A hub that is away keeps its clients waiting, because the supervisor holds its socket. Whoever looks at a page is told
// so, by one that asks again. Not where the same request must not be sent twice (an answer of the identity provider),
// nor in users' own servers, which may take their time.
const AWAY = process.env.TIDEHUB_AWAY_PAGE || ""; // a file, which changes with the site's name
const AWAY_AFTER = 1000 * Number(process.env.TIDEHUB_AWAY_SECONDS || 20);

function sayAway(request, response) {
  const place = String(request.url).split("?", 1)[0];
  const page = request.method === "GET" && /\btext\/html\b/.test(request.headers.accept || "");
  if (!AWAY || !page || /oauth|\/(user|services|api)\//.test(place)) return;
  const timer = setTimeout(() => {
    if (response.headersSent || response.writableEnded) return;
    const headers = { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Retry-After": "5" };
    let words = "This site does not answer just now. Try again in a moment.\n";
    try {
      words = fs.readFileSync(AWAY);
    } catch (error) {
      headers["Content-Type"] = "text/plain; charset=utf-8";
    }
    response.writeHead(503, headers).end(words);
  }, AWAY_AFTER);
  response.once("close", () => clearTimeout(timer));
}

const REFUSAL = "This address speaks plain HTTP to its reverse proxy only. Use the site's public address.\n";

const NO_LENGTH = "The body of a DELETE or OPTIONS request needs a Content-Length here.\n";

// http-proxy (1.18) declares the body of such a request to be empty and sends it all the same, so that the server
// behind reads it as the next request: one that has not come through here, with forwarded headers of the client's own.
function smuggles(request) {
  const lost = request.method === "DELETE" || request.method === "OPTIONS";
  return lost && request.headers["transfer-encoding"] !== undefined;
}

const UNREADABLE = "This address cannot be read: a % in its path is not followed by the code of a character.\n";

// Whether the path can be decoded; the proxy looks it up decoded, and answers 500 where that fails.
function readable(url) {
  try {
    decodeURIComponent(String(url).split("?", 1)[0]);
    return true;
  } catch (error) {
    return false;
  }
}

function refusalOf(request) {
  if (!admit(request)) return [403, REFUSAL];
  if (!readable(request.url)) return [400, UNREADABLE];
  return smuggles(request) ? [411, NO_LENGTH] : null;
}

function refuse(event, target, status, text) {
  const headers = { "Content-Type": "text/plain; charset=utf-8", Connection: "close" };
  if (event === "request") {
    target.writeHead(status, headers).end(text);
  } else {
    const line = `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`;
    target.end(`${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  }
}

// Whose connections they are, is asked of tidehub/system/peers.py, because Node cannot ask the kernel. The connection
// is served meanwhile: what matters is that a user cannot hold more than their number.
const [most, ...peers] = JSON.parse(process.env.TIDEHUB_PEERS || "[0]");
const asked = new Map();
const owners = new WeakMap();
const counts = new Map();
const toldAt = new Map();
const TELL_EVERY = 60_000;
const AGAIN_AFTER = 1000;
let questions = 0;
let knows = null;
// Where the kernel does not tell whose a connection is, the address alone counts, as it does for another machine.
let tells = peers.length > 0;

function startAsking() {
  if (peers.length === 0) return;
  const one = spawn(peers[0], peers.slice(1), { stdio: ["pipe", "pipe", "inherit"], cwd: "/" });
  let rest = "";
  let ended = false;
  const end = (why) => {
    if (ended) return;
    ended = true;
    knows = null;
    // 1: the kernel of this machine does not tell.
    tells = why !== 1;
    for (const socket of asked.values()) settle(socket, tells ? "" : "system");
    asked.clear();
    console.error(`warn: the connections of users of this machine are not counted: ${why}`);
    if (tells) setTimeout(startAsking, AGAIN_AFTER).unref();
  };
  one.on("error", (error) => end(error.message));
  one.on("exit", (code, signal) => end(signal || code));
  one.stdin.on("error", () => {});
  one.stdout.setEncoding("utf8").on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [key, kind, uid] = line.split(" ");
      const socket = asked.get(key);
      asked.delete(key);
      if (!socket) continue;
      settle(socket, kind, uid);
      if (kind === "user" && owners.get(socket).counts) count(socket, uid);
    }
  });
  for (const stream of [one, one.stdin, one.stdout]) stream.unref();
  knows = one.stdin;
}

function ask(socket, counts) {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  owners.set(socket, { counts, kind: null, uid: "", waiting: [] });
  if (knows === null || remoteAddress === undefined || localAddress === undefined) {
    settle(socket, tells ? "" : "system");
    return;
  }
  const key = String((questions += 1));
  asked.set(key, socket);
  socket.once("close", () => asked.delete(key));
  knows.write(`${key} ${remoteAddress} ${remotePort} ${localAddress} ${localPort}\n`);
}

function settle(socket, kind, uid) {
  const owner = owners.get(socket);
  Object.assign(owner, { kind, uid });
  for (const go of owner.waiting.splice(0)) go();
}

// Calls `go` when it is known whose the connection is; false where it is known already.
function waitForOwner(socket, go) {
  // Of a connection with TLS another object was asked about, when it began.
  if (!owners.has(socket)) ask(socket, false);
  const owner = owners.get(socket);
  if (owner.kind !== null) return false;
  owner.waiting.push(go);
  return true;
}

function isOperators(socket) {
  const { kind, uid } = owners.get(socket);
  if (kind === "system") return true;
  const who = uid ? `uid ${uid}` : "a program that has gone";
  tell(
    `forwarded ${uid}`,
    `forwarded headers of ${who} on this machine are not believed: machine.trusted_proxies means the operator's own ` +
      "reverse proxy, which runs as root or as a system account (a uid below 1000)",
  );
  return false;
}

function tell(key, text) {
  if (Date.now() - (toldAt.get(key) || 0) < TELL_EVERY) return;
  toldAt.set(key, Date.now());
  console.error(`warn: ${text}`);
}

function count(socket, uid) {
  if (socket.destroyed) return;
  const before = counts.get(uid) || 0;
  if (before >= most) {
    socket.resetAndDestroy();
    tell(uid, `uid ${uid} has ${before} connections open, the most that one user may have; more are refused`);
    return;
  }
  counts.set(uid, before + 1);
  socket.once("close", () => {
    const left = counts.get(uid) - 1;
    if (left > 0) counts.set(uid, left);
    else counts.delete(uid);
  });
}

startAsking();

for (const Server of [http.Server, https.Server]) {
  const emit = Server.prototype.emit;
  Server.prototype.emit = function considered(event, ...values) {
    if (event === "connection") ask(values[0], true);
    if (event === "request" || event === "upgrade") {
      const [request, target] = values;
      // Node has let go of the socket of an upgrade, and the proxy takes it when it has found the route: whoever resets it
      // meanwhile would be an uncaught exception.
      if (event === "upgrade") target.on("error", () => {});
      // From here on again: what is loaded after this file (cookies.cjs) has had its turn.
      const again = () => target.destroyed || considered.call(this, event, ...values);
      if (hangsOnOwner(request) && waitForOwner(request.socket, again)) return true;
      const proper = event === "request" ? properAddress(request) : "";
      const refusal = refusalOf(request);
      if (refusal) {
        refuse(event, target, ...refusal);
        return true;
      }
      if (event === "request") {
        ownHeaders(request, target);
        if (proper) {
          moveTo(proper, target);
          return true;
        }
        sayAway(request, target);
        // It is about the client's connection (RFC 9110, 7.6.1); the one behind is for this request alone, and says so.
        delete request.headers.connection;
        for (const name of ["keep-alive", "upgrade", "http2-settings"]) delete request.headers[name];
      }
    } else if (event === "error" && !this.listening && values[0] && values[0].syscall) {
      console.error(`error: cannot listen: ${values[0].message}`);
      process.exit(1);
    }
    return emit.call(this, event, ...values);
  };
}

function keepCertificate(server, options) {
  const { TIDEHUB_TLS_CERTIFICATE: certificate, TIDEHUB_TLS_KEY: keyFile } = process.env;
  if (!certificate || !keyFile) return;
  let used = Buffer.concat([Buffer.from(options.cert), Buffer.from(options.key)]);
  let refused = null;
  let said = "";
  const look = () => {
    let read;
    try {
      const cert = fs.readFileSync(certificate);
      const key = fs.readFileSync(keyFile);
      read = Buffer.concat([cert, key]);
      if (read.equals(used) || (refused && read.equals(refused))) return;
      if (!new crypto.X509Certificate(cert).checkPrivateKey(crypto.createPrivateKey(key))) {
        throw new Error("the key is not that of the certificate");
      }
      server.setSecureContext({ ...options, cert, key });
      used = read;
      refused = null;
      said = "";
      console.log("info: the certificate changed and is in use");
    } catch (error) {
      refused = read || null;
      if (error.message !== said) console.error(`warn: the certificate in use stays: ${error.message}`);
      said = error.message;
    }
  };
  setInterval(look, 1000 * Number(process.env.TIDEHUB_TLS_POLL_SECONDS || 5)).unref();
}

// Node counts `requestTimeout` (300 s, if nobody says) from the first byte to the last of the body: it would cut uploads.
const PATIENCE = {
  headersTimeout: 1000 * Number(process.env.TIDEHUB_HEADERS_SECONDS || 20),
  requestTimeout: 0,
  // The proxy resets whoever asks for another protocol, as clients that would like HTTP/2 do; a server need not change it
  // (RFC 9110, 7.8), and answers.
  shouldUpgradeCallback: ({ method, headers }) => method === "GET" && /^websocket$/i.test(headers.upgrade || ""),
  connectionsCheckingInterval: 500,
  // Longer than clients are told (`--keep-alive-timeout`), for what they send in the last moment.
  keepAliveTimeoutBuffer: 5000,
};

// Towards the servers behind, a connection is for one request. One that was kept can be closed by its server, at its
// end or at its time-out, in the moment in which the next request is sent on it: that one is lost, and nobody can tell
// whether it was carried out. A new one costs little on one machine, and waits in the socket that
// the supervisor holds while a part starts anew.
for (const module of [http, https]) {
  const { Agent } = module;
  module.Agent = class extends Agent {
    constructor(options) {
      super({ ...options, keepAlive: false });
    }
  };
}

for (const [module, create] of [
  [http, http.createServer],
  [https, https.createServer],
]) {
  module.createServer = function (options, listener) {
    const [given, answer] = typeof options === "function" ? [{}, options] : [options || {}, listener];
    const server = create.call(module, { ...PATIENCE, ...given }, answer);
    if (given.cert) keepCertificate(server, given);
    return server;
  };
}

// Users own the directories of their servers' sockets and could put a link to any socket there that the proxy may
// connect to: its own API, the servers of others. As `tidehub.system.unix_sockets` does it; Node cannot ask who listens.
// Our own parts are not connected to at their ports, which any user of this machine can keep busy; see tidehub/inside.py.
// Their sockets lie in a directory of the operator's.
const inside = JSON.parse(process.env.TIDEHUB_INSIDE || "{}");
const O_PATH = 0o10000000; // asm-generic/fcntl.h; Node has no name for it
const connect = net.Socket.prototype.connect;
const write = net.Socket.prototype.write;

// At the end of a request Node writes nothing (OutgoingMessage.end), but really: a Unix socket that its other end has
// closed answers that with EPIPE, and the answer that a quick server has left in it would never be read.
function writeSomething(data, ...rest) {
  if (data.length > 0) return write.call(this, data, ...rest);
  const then = rest.find((value) => typeof value === "function");
  if (then) process.nextTick(then);
  return !this.writableNeedDrain;
}

function connectTo(socket, options, then) {
  connect.call(socket, options, then); // which gives it Node's own `write`
  socket.write = writeSomething;
  return socket;
}

net.Socket.prototype.connect = function (...values) {
  // node:net hands its own calls on as one array of options and callback.
  const [given, then] = Array.isArray(values[0]) ? values[0] : values;
  const part = given && typeof given === "object" && !given.path && inside[`${given.host}:${given.port}`];
  if (part) return connectTo(this, { ...given, host: undefined, port: undefined, path: part }, then);
  if (!given || typeof given !== "object" || !given.path) return connect.apply(this, values);
  let named;
  try {
    const found = (flags, name) => fs.openSync(name, O_PATH | fs.constants.O_NOFOLLOW | flags);
    const directory = found(fs.constants.O_DIRECTORY, path.dirname(given.path));
    try {
      named = found(0, `/proc/self/fd/${directory}/${path.basename(given.path)}`);
      const [socket, owner] = [fs.fstatSync(named), fs.fstatSync(directory).uid];
      if (!socket.isSocket() || socket.uid !== owner) throw new Error("not a socket of its directory's owner");
    } finally {
      fs.closeSync(directory);
    }
    return connectTo(this, { ...given, path: `/proc/self/fd/${named}` }, then);
  } catch (error) {
    process.nextTick(() => this.destroy(Object.assign(error, { code: error.code || "ECONNREFUSED" })));
    return this;
  } finally {
    // connect(2) on a Unix socket has looked the name up when it returns.
    if (named !== undefined) fs.closeSync(named);
  }
};

// Connections that may wait to be accepted, while somebody connects as fast as they can (listen(2); Node's own: 511).
const BACKLOG = 4096;
const inherited = /(?:^|,)front=(\d+)/.exec(process.env.TIDEHUB_LISTEN || "");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...values) {
  // The public address is the only one given as a port: the proxy's API listens on a path.
  if (inherited && typeof values[0] === "number") {
    // Node (24) does not read `backlog` beside `fd`; it does read the argument.
    return listen.call(this, { fd: Number(inherited[1]) }, BACKLOG, ...values.filter((value) => typeof value === "function"));
  }
  return listen.apply(this, values);
};
syncBuiltinESMExports();
