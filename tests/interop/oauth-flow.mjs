// The official TypeScript SDKs' own OAuth client against the bridge and a real authorization server.
//
//   node oauth-flow.mjs v1|v2|v2-modern URL ISSUER CACHE_MS
//
// No token → 401 → metadata → registration → sign-in with consent to `add` alone → `add` works and
// `divide` is refused with 403 → step-up → both work → the consent is withdrawn → refused with 401
// at most CACHE_MS later → signing in again works.
import { setTimeout } from 'node:timers/promises';
import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import * as v1http from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as v1auth from '@modelcontextprotocol/sdk/client/auth.js';
import * as v2 from '@modelcontextprotocol/client';
import { Application } from './sign-in.mjs';
import { ensure, failure, main, note, recordingFetch, same } from './transcript.mjs';

const ALL = ['op:add', 'op:div', 'op:mult', 'op:sub'];
/** What a loaded machine may take longer than the cache time. */
const SLACK_MS = 5_000;
/** Well under the bridge's rate limit. */
const CALL_EVERY_MS = 50;

/** What differs between the SDK versions. */
const SDKS = {
  v1: {
    // It steps up to the challenge's scope alone.
    keepScopes: true,
    client: () => new v1.Client({ name: 'interop-v1', version: '1.0.0' }),
    Transport: v1http.StreamableHTTPClientTransport,
    finish: (transport, answer) => transport.finishAuth(answer.get('code')),
    isUnauthorized: (error) => error instanceof v1auth.UnauthorizedError,
    stepUp: ['op:add', 'op:div'],
  },
  v2: {
    keepScopes: false,
    client: () => new v2.Client({ name: 'interop-v2', version: '1.0.0' }),
    Transport: v2.StreamableHTTPClientTransport,
    finish: (transport, answer) => transport.finishAuth(answer),
    isUnauthorized: (error) => error instanceof v2.UnauthorizedError,
    stepUp: ['op:add', 'op:div'],
  },
};
SDKS['v2-modern'] = {
  ...SDKS.v2,
  client: () =>
    new v2.Client({ name: 'interop-v2', version: '1.0.0' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } }),
};

const [name, url, issuer, cacheMs] = process.argv.slice(2);
const sdk = SDKS[name];
const exchanges = [];
/** What the SDK asked of others than the endpoint itself. */
const discovery = [];

main(async () => {
  ensure(sdk !== undefined && Number(cacheMs) >= 0, 'usage: oauth-flow.mjs v1|v2|v2-modern URL ISSUER CACHE_MS');
  const application = new Application({ keepScopes: sdk.keepScopes });

  await consentTo('op:add');
  let { client, transport } = open(application);
  const refused = await failure(client.connect(transport), 'connecting without a token');
  ensure(sdk.isUnauthorized(refused), `the SDK did not understand the 401: ${refused.stack}`);
  checkFirstChallenge(exchanges[0]);
  same(application.requestedScopes, ALL, 'scopes in the first authorization request');
  await sdk.finish(transport, await application.consent(url));
  checkDiscovery();
  same(application.tokens().scope, 'op:add', 'scope of the first token');
  note('signed in', { discovery });

  ({ client, transport } = open(application));
  await client.connect(transport);
  same((await client.listTools()).tools.length, 1, 'number of tools');
  await calculate(client, { operation: 'add', a: 6, b: 7 }, '13');

  const divide = { operation: 'divide', a: 8, b: 2 };
  const forbidden = await failure(client.callTool({ name: 'calculator', arguments: divide }), 'divide without consent');
  ensure(sdk.isUnauthorized(forbidden), `the SDK did not step up: ${forbidden.stack}`);
  checkStepUpChallenge(exchanges.at(-1));
  const asked = application.requestedScopes;
  for (const scope of sdk.stepUp) ensure(asked.includes(scope), `the step-up asks for ${asked}, without ${scope}`);
  await consentTo('op:add op:div');
  await sdk.finish(transport, await application.consent(url));
  same(application.tokens().scope.split(' ').sort(), ['op:add', 'op:div'], 'scope after the step-up');
  note('stepped up', { asked });
  await calculate(client, divide, '4');
  await calculate(client, { operation: 'add', a: 6, b: 7 }, '13');

  await post('/test/revoke-grants');
  await refusedInTime(client);
  checkRevoked(exchanges.at(-1));

  await sdk.finish(transport, await application.consent(url));
  await calculate(client, { operation: 'add', a: 6, b: 7 }, '13');
  note('signed in again');
  await client.close();
  note('exchanges', { exchanges });
});

function open(application) {
  const record = recordingFetch(url, exchanges);
  const transport = new sdk.Transport(new URL(url), {
    authProvider: application,
    fetch: async (input, init) => {
      const response = await record(input, init);
      if (String(input) !== url) discovery.push(`${init?.method ?? 'GET'} ${input} ${response.status}`);
      return response;
    },
  });
  return { client: sdk.client(), transport };
}

async function calculate(client, args, text) {
  const result = await client.callTool({ name: 'calculator', arguments: args });
  same(result.content[0].text, text, JSON.stringify(args));
  note('call', { args, text });
}

/** Calls until refused; with a cache time of 0 the first call must be. */
async function refusedInTime(client) {
  const start = performance.now();
  let calls = 0;
  for (;;) {
    calls += 1;
    const outcome = await client
      .callTool({ name: 'calculator', arguments: { operation: 'add', a: 6, b: 7 } })
      .then(() => undefined, (error) => error);
    const elapsed = Math.round(performance.now() - start);
    if (outcome !== undefined) {
      ensure(sdk.isUnauthorized(outcome), `not refused as unauthorized: ${outcome.stack}`);
      note('refused after withdrawal', { calls, elapsed_ms: elapsed });
      return;
    }
    ensure(Number(cacheMs) > 0, 'a call was answered after the consent was withdrawn, with no cache');
    ensure(elapsed < Number(cacheMs) + SLACK_MS, `still answered ${elapsed} ms after the consent was withdrawn`);
    await setTimeout(CALL_EVERY_MS);
  }
}

const metadataUrl = () => new URL(`/.well-known/oauth-protected-resource${new URL(url).pathname}`, url).href;

function challengeOf(exchange) {
  const [, scheme, rest] = /^(\S+) (.*)$/.exec(exchange.challenge ?? '') ?? [];
  same(scheme, 'Bearer', `scheme of the challenge ${exchange.challenge}`);
  return Object.fromEntries([...rest.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
}

function checkFirstChallenge(exchange) {
  same([exchange.status, exchange.authorized], [401, false], 'first exchange');
  const { error, scope, resource_metadata: metadata } = challengeOf(exchange);
  same([error, scope.split(' ').sort(), metadata], [undefined, ALL, metadataUrl()], 'challenge without a token');
}

function checkStepUpChallenge(exchange) {
  same(exchange.status, 403, 'status of divide without consent');
  const { error, scope, resource_metadata: metadata } = challengeOf(exchange);
  same([error, scope, metadata], ['insufficient_scope', 'op:div', metadataUrl()], 'challenge of divide');
}

function checkRevoked(exchange) {
  same([exchange.status, exchange.authorized], [401, true], 'exchange after the withdrawal');
  same(challengeOf(exchange).error, 'invalid_token', 'error after the withdrawal');
}

function checkDiscovery() {
  const expected = [
    `GET ${metadataUrl()} 200`,
    `GET ${issuer}/.well-known/oauth-authorization-server 200`,
    `POST ${issuer}/reg 201`,
    `POST ${issuer}/token 200`,
  ];
  const seen = discovery.filter((line) => expected.includes(line));
  same([...new Set(seen)], expected, `metadata, registration and token requests among ${JSON.stringify(discovery)}`);
}

async function consentTo(scopes) {
  await post('/test/consent', { scopes });
  note('consent', { scopes });
}

async function post(path, body) {
  const response = await fetch(`${issuer}${path}`, { method: 'POST', body: JSON.stringify(body) });
  same(response.status, 200, `status of ${path}`);
}
