// An authority that signs real tokens, at the path of Entra ID. Prints its URL.
import { OAuth2Server } from "oauth2-mock-server";

const server = new OAuth2Server(undefined, undefined, {
  endpoints: { token: "/tenant-1/oauth2/v2.0/token" },
});
await server.issuer.keys.generate("RS256");
await server.start(Number(process.argv[2]), "127.0.0.1");
console.log(server.issuer.url);
