// Loaded into configurable-http-proxy by `node --require`, after front.cjs: cookies of one platform are its own.
//
// Browsers keep cookies by host and path, not by port (RFC 6265, 8.5), and JupyterHub's have fixed names: two platforms on
// one host, or two that are reached through tunnels as localhost, would overwrite each other's, and sign each other out.
// - What scripts cannot read (HttpOnly) gets another name on its way out, `NAME.th-MARK`, and its own on its way in.
//   What bears another platform's mark is not handed on: it is none of ours, and nobody behind us should see it.
// - `_xsrf` is read by scripts, which know its name. Each platform keeps a token of its own in it:
//   `TOKEN.th-MARK~TOKEN.th-MARK`, and takes its own part of what scripts send back (X-XSRFToken, `?_xsrf=`).
// - What has no mark is handed on as it is: cookies from before, and those of applications.
"use strict";

const http = require("node:http");
const https = require("node:https");

const mark = process.env.TIDEHUB_COOKIE_MARK;
const MARKED = /^(.*)\.th-([0-9a-f]{8})$/s;
const XSRF = "_xsrf";
const MOST_OTHERS = 4; // platforms whose tokens are kept beside ours; a cookie may have 4096 bytes

function read(name) {
  const found = MARKED.exec(name);
  return found ? { plain: found[1], by: found[2] } : { plain: name, by: "" };
}

function named(name) {
  return `${name}.th-${mark}`;
}

function pairs(header) {
  return String(header || "")
    .split(";")
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? [part, null] : [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    });
}

function tokens(value) {
  return String(value).replace(/^"|"$/g, "").split("~").map(read);
}

// Our own part of what a script sends back; what has no marks is from before, or rendered into the page by the server.
function ownToken(value) {
  const parts = tokens(value);
  if (!parts.some((part) => part.by)) return value;
  return (parts.find((part) => part.by === mark) || { plain: "" }).plain;
}

// Rewrites the request's cookies and tokens in place; returns what its answer has to know of them.
function receive(request) {
  const given = pairs(request.headers.cookie);
  const ours = new Set(given.map(([name]) => read(name)).filter((name) => name.by === mark).map((name) => name.plain));
  const others = new Map();
  const kept = [];
  for (const [name, value] of given) {
    const { plain, by } = read(name);
    if (by === mark) kept.push(`${plain}=${value}`);
    else if (name === XSRF) {
      for (const token of tokens(value)) {
        if (token.by === mark) kept.push(`${XSRF}=${token.plain}`);
        else if (!token.by) kept.push(`${XSRF}=${token.plain}`);
        else if (!others.has(token.by)) others.set(token.by, token.plain);
      }
    } else if (!by && !ours.has(name)) kept.push(value === null ? name : `${name}=${value}`);
  }
  if (kept.length) request.headers.cookie = kept.join("; ");
  else delete request.headers.cookie;
  for (const name of ["x-xsrftoken", "x-csrftoken"]) {
    if (request.headers[name] !== undefined) request.headers[name] = ownToken(request.headers[name]);
  }
  const at = request.url.indexOf("?");
  if (at >= 0) {
    const query = request.url.slice(at).replace(/([?&]_xsrf=)([^&]*)/g, (all, name, value) => {
      const marked = value.replace(/%7e/gi, "~");
      return name + ownToken(marked);
    });
    request.url = request.url.slice(0, at) + query;
  }
  return others;
}

function isDeletion(attributes) {
  return attributes.some(([name, value]) => {
    if (/^max-age$/i.test(name)) return Number(value) <= 0;
    return /^expires$/i.test(name) && Date.parse(value) < Date.now();
  });
}

function send(line, others) {
  const [first, ...attributes] = pairs(line);
  if (first === undefined) return []; // users write servers, and this is no cookie
  const [name, value] = first;
  const rest = (wanted) => wanted.map(([key, said]) => (said === null ? `; ${key}` : `; ${key}=${said}`)).join("");
  if (value === null || read(name).by) return [line];
  // A library that deletes a cookie does not say again that it was HttpOnly.
  if (isDeletion(attributes)) {
    if (name === XSRF) return others.size ? [] : [line];
    return [line, `${named(name)}=${value}${rest(attributes)}`];
  }
  if (attributes.some(([key]) => /^httponly$/i.test(key))) return [`${named(name)}=${value}${rest(attributes)}`];
  if (name !== XSRF) return [line];
  const foreign = [...others].slice(0, MOST_OTHERS).map(([by, token]) => `${token}.th-${by}`);
  // Others' tokens must not end with ours.
  const lasting = attributes.filter(([key]) => !foreign.length || !/^(max-age|expires)$/i.test(key));
  return [`${XSRF}=${[named(value.replace(/^"|"$/g, "")), ...foreign].join("~")}${rest(lasting)}`];
}

function answer(response, others) {
  const writeHead = response.writeHead;
  response.writeHead = function (...values) {
    const set = response.getHeader("set-cookie");
    if (set !== undefined) {
      const lines = [].concat(set).flatMap((line) => send(String(line), others));
      if (lines.length) response.setHeader("set-cookie", lines);
      else response.removeHeader("set-cookie");
    }
    return writeHead.apply(response, values);
  };
}

for (const Server of mark ? [http.Server, https.Server] : []) {
  const emit = Server.prototype.emit;
  Server.prototype.emit = function (event, ...values) {
    // The proxy's own API listens on a socket in the file system and has no peer address.
    if ((event === "request" || event === "upgrade") && values[0].socket.remoteAddress) {
      const others = receive(values[0]);
      if (event === "request") answer(values[1], others);
    }
    return emit.call(this, event, ...values);
  };
}
