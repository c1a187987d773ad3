// An OpenID provider that nobody here wrote (npm oidc-provider), told what to be by a JSON file.
// `node provider.mjs CONFIG`; CONFIG.accounts is read again for every request, so a test can change people.
// CONFIG.tls (certificate, key) has it answer by TLS, CONFIG.keycloak at the addresses that a Keycloak has.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import Provider from "oidc-provider";

const read = () => JSON.parse(readFileSync(process.argv[2], "utf8"));
const config = read();
const at = "/protocol/openid-connect";
const keycloak = {
  authorization: `${at}/auth`,
  token: `${at}/token`,
  userinfo: `${at}/userinfo`,
  jwks: `${at}/certs`,
  end_session: `${at}/logout`,
  revocation: `${at}/revoke`,
};

const provider = new Provider(config.issuer, {
  clients: config.clients,
  jwks: config.jwks,
  routes: config.keycloak ? keycloak : {},
  cookies: { keys: ["of the tests, for the tests"] },
  scopes: ["openid", "offline_access", "profile", "email", "entitlements", "eduperson_entitlement"],
  claims: {
    openid: ["sub"],
    profile: ["name", "preferred_username"],
    email: ["email", "email_verified"],
    entitlements: ["entitlements"],
    eduperson_entitlement: ["eduperson_entitlement"],
  },
  async findAccount(ctx, id) {
    const account = read().accounts[id];
    if (account === undefined) return undefined;
    return { accountId: id, claims: async () => ({ sub: id, ...account }) };
  },
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  clockTolerance: 0,
  ttl: {
    AccessToken: config.accessTokenSeconds ?? 3600,
    AuthorizationCode: 60,
    IdToken: 3600,
    RefreshToken: 86400,
    Grant: 86400,
    Session: 86400,
    Interaction: 3600,
  },
  features: {
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
});

provider.on("server_error", (ctx, error) => console.error("server_error", error));

// The issuer's own path comes before the provider's, which finds it by what the address was.
const mounted = new URL(config.issuer).pathname.replace(/\/$/, "");
const answer = provider.callback();
const handler = (request, response) => {
  if (!request.url.startsWith(mounted)) return response.writeHead(404).end();
  request.originalUrl = request.url;
  request.url = request.url.slice(mounted.length);
  return answer(request, response);
};
const server = config.tls
  ? https.createServer({ cert: config.tls.certificate, key: config.tls.key }, handler)
  : http.createServer(handler);
server.listen(config.port, config.address ?? "127.0.0.1", () => console.log("listening"));
