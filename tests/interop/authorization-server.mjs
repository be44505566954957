// A real authorization server (`oidc-provider`) on a free loopback port, for the tests.
//
//   BRIDGE_SECRET=… node authorization-server.mjs [--token-ttl SECONDS] [--token-format opaque|jwt] [--refresh-tokens]
//
// Prints one JSON line when it accepts connections: {"issuer", "introspection_url", "client_id"}.
// It ends when its standard input does, so that it cannot outlive the test that started it.
//
// Whoever comes is signed in as `alice`; what she consents to is what the test said last:
//   POST /test/consent        {"scopes": "op:add"}   from now on she consents to these only; with none, she refuses
//   POST /test/revoke-grants                         she withdraws every consent
//   POST /test/token-ttl      {"seconds": 600}       how long tokens live that are issued from now on
//   GET  /test/introspections                        how often it was asked about a token
//   GET  /test/tokens                                how often tokens were renewed, all that was issued, and
//                                                    what its token endpoint was asked for
// With DESK_SECRET in the environment there is a confidential client `desk` of a native program.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { Provider, interactionPolicy } from 'oidc-provider';

// They are about keys, storage and defaults in production; errors still show. Nobody reads stdout after
// the first line, so a notice there would end the server.
console.warn = console.info = () => {};

const SCOPES = ['op:add', 'op:sub', 'op:mult', 'op:div'];
const ACCOUNT = 'alice';
const BRIDGE = 'bridge';

const { values } = parseArgs({
  options: {
    'token-ttl': { type: 'string', default: '600' },
    'token-format': { type: 'string', default: 'opaque' },
    // For clients that have registered for them.
    'refresh-tokens': { type: 'boolean', default: false },
  },
});
let tokenTtl = Number(values['token-ttl']);
const secret = process.env.BRIDGE_SECRET;
if (!secret || !(tokenTtl > 0)) {
  console.error('usage: BRIDGE_SECRET=… node authorization-server.mjs [--token-ttl SECONDS] [--token-format opaque|jwt]');
  process.exit(2);
}

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

let consented = new Set(SCOPES);
let introspections = 0;
/** Every code and token: its kind and value. */
const issued = [];
/** Every request for tokens: what was granted, or why not. */
const asked = [];
const grants = new Set();

const desk = process.env.DESK_SECRET && {
  client_id: 'desk',
  client_secret: process.env.DESK_SECRET,
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
};

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: BRIDGE,
      client_secret: secret,
      redirect_uris: [],
      response_types: [],
      grant_types: [],
    },
    ...(desk ? [desk] : []),
  ],
  responseTypes: ['code'],
  // Only a listed scope can be registered by a client; what it means is up to the resource.
  scopes: SCOPES,
  pkce: { required: () => true },
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
  clientDefaults: { grant_types: ['authorization_code'], response_types: ['code'] },
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  // Every authorization asks anew, so that a step-up shows what it asks for.
  loadExistingGrant: (ctx) => {
    const grantId = ctx.oidc.result?.consent?.grantId;
    return grantId ? ctx.oidc.provider.Grant.find(grantId) : undefined;
  },
  issueRefreshToken: (_ctx, client) => values['refresh-tokens'] && client.grantTypeAllowed('refresh_token'),
  interactions: { policy: interactionPolicy.base(), url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: () => tokenTtl, Grant: 3600, Interaction: 600, Session: 3600 },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    revocation: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId === BRIDGE },
    resourceIndicators: {
      enabled: true,
      // No default: a client that leaves `resource` out gets a token that no resource accepts.
      defaultResource: () => undefined,
      getResourceServerInfo: (_ctx, resource) => ({
        scope: SCOPES.join(' '),
        audience: resource,
        accessTokenFormat: values['token-format'],
        accessTokenTTL: tokenTtl,
      }),
    },
  },
});

for (const event of ['server_error', 'authorization.error', 'grant.error', 'registration_create.error', 'introspection.error']) {
  provider.on(event, (_ctx, error) => console.error(`${event}: ${error.message}: ${error.error_description ?? error.stack}`));
}

for (const [event, kind] of [
  ['authorization_code.saved', 'AuthorizationCode'],
  ['access_token.saved', 'AccessToken'],
  ['refresh_token.saved', 'RefreshToken'],
]) {
  provider.on(event, (token) => issued.push({ kind, value: token.jti }));
}
provider.on('grant.success', ({ oidc }) => {
  const { grant_type, code_verifier } = oidc.params;
  asked.push({ grant_type, code_verifier });
});
provider.on('grant.error', ({ oidc }, { error }) => asked.push({ grant_type: oidc.params?.grant_type, error }));

/** Signs Alice in, or takes her consent to what of the request the test allows. */
async function interact(request, response) {
  const { prompt, params } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: ACCOUNT } });
  }
  if (consented.size === 0) {
    const refused = { error: 'access_denied', error_description: 'Alice refuses' };
    return provider.interactionFinished(request, response, refused);
  }
  const grant = new provider.Grant({ accountId: ACCOUNT, clientId: params.client_id });
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    const [yes, no] = [scopes.filter((scope) => consented.has(scope)), scopes.filter((scope) => !consented.has(scope))];
    if (yes.length > 0) grant.addResourceScope(resource, yes.join(' '));
    if (no.length > 0) grant.rejectResourceScope(resource, no.join(' '));
  }
  // The same names as scopes of the server's own user data: never wanted.
  if (prompt.details.missingOIDCScope) grant.rejectOIDCScope(prompt.details.missingOIDCScope.join(' '));
  const grantId = await grant.save();
  grants.add(grantId);
  return provider.interactionFinished(request, response, { consent: { grantId } }, { mergeWithLastSubmission: true });
}

async function control(request, response, path) {
  if (path === '/test/consent' && request.method === 'POST') {
    let body = '';
    for await (const chunk of request) body += chunk;
    consented = new Set(JSON.parse(body).scopes.split(' ').filter(Boolean));
  } else if (path === '/test/revoke-grants' && request.method === 'POST') {
    for (const grantId of grants) await (await provider.Grant.find(grantId))?.destroy();
    grants.clear();
  } else if (path === '/test/token-ttl' && request.method === 'POST') {
    let body = '';
    for await (const chunk of request) body += chunk;
    tokenTtl = JSON.parse(body).seconds;
  } else if (path === '/test/tokens') {
    const tokens = [];
    for (const { kind, value } of issued) {
      const token = await provider[kind].find(value);
      tokens.push({ kind, value, alive: Boolean(token?.isValid) });
    }
    response.setHeader('content-type', 'application/json');
    const refreshes = asked.filter(({ grant_type, error }) => grant_type === 'refresh_token' && !error).length;
    return response.end(JSON.stringify({ refreshes, tokens, asked }));
  } else if (path !== '/test/introspections') {
    response.statusCode = 404;
    return response.end();
  }
  response.setHeader('content-type', 'application/json');
  return response.end(JSON.stringify({ introspections }));
}

const oidc = provider.callback();
server.on('request', (request, response) => {
  const path = new URL(request.url, issuer).pathname;
  if (path === '/token/introspection') introspections += 1;
  const handle = path.startsWith('/interaction/') ? interact : path.startsWith('/test/') ? control : oidc;
  Promise.resolve(handle(request, response, path)).catch((error) => {
    console.error(error.stack);
    response.statusCode = 500;
    response.end();
  });
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
console.log(JSON.stringify({ issuer, introspection_url: `${issuer}/token/introspection`, client_id: BRIDGE }));
