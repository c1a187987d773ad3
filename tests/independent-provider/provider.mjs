// An OpenID provider that nobody here wrote (npm oidc-provider), told what to be by a JSON file.
// `node provider.mjs CONFIG`; CONFIG.accounts is read again for every request, so a test can change people.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const read = () => JSON.parse(readFileSync(process.argv[2], "utf8"));
const config = read();

const provider = new Provider(config.issuer, {
  clients: config.clients,
  jwks: config.jwks,
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
provider.listen(config.port, "127.0.0.1", () => console.log("listening"));
