// The official TypeScript SDKs' own OAuth client against the bridge with its embedded authorization
// server, and its user in a real browser.
//
//   PASSPHRASE=… node authserver-flow.mjs v1|v2|v2-modern URL
//
// No token → 401 → metadata → registration → signing in, with division unticked → the others work and
// `divide` is refused with 403 → step-up → it works → taken back on the account page → refused with 401.
import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import * as v1http from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as v1auth from '@modelcontextprotocol/sdk/client/auth.js';
import * as v2 from '@modelcontextprotocol/client';
import { RULES, allow, takeBack } from './browser-consent.mjs';
import { withPage } from './chromium.mjs';
import { Application } from './sign-in.mjs';
import { ensure, failure, main, note, recordingFetch, same } from './transcript.mjs';

const ALL = ['op:add', 'op:div', 'op:mult', 'op:sub'];
const WITHOUT_DIVISION = ALL.filter((scope) => scope !== 'op:div');
const [name, url] = process.argv.slice(2);
const { PASSPHRASE: passphrase } = process.env;
const isV1 = name === 'v1';
const versionNegotiation = name === 'v2-modern' ? { mode: { pin: '2026-07-28' } } : undefined;
const exchanges = [];

main(() =>
  withPage(RULES, async (first) => {
    const browser = first.context();
    let scopes = WITHOUT_DIVISION;
    const application = new Application({
      keepScopes: isV1,
      async browse(start, callback) {
        const { offered, answer } = await allow(browser, String(start), { passphrase, scopes }, String(callback));
        note('allowed', { offered, scopes });
        return answer.searchParams;
      },
    });
    let { client, transport } = open(application);
    const unauthorized = await failure(client.connect(transport), 'connecting without a token');
    ensure(isUnauthorized(unauthorized), `the SDK did not understand the 401: ${unauthorized.stack}`);
    same(exchanges[0].status, 401, 'first status');
    same(application.requestedScopes, ALL, 'scopes that the SDK asks for');
    await finish(transport, await application.consent(url));
    same(application.tokens().scope.split(' ').sort(), WITHOUT_DIVISION, 'scopes of the first token');

    ({ client, transport } = open(application));
    await client.connect(transport);
    same(await calculate(client, 'add', 6, 7), '13', 'adding');
    same(await calculate(client, 'multiply', 6, 7), '42', 'multiplying');
    const forbidden = await failure(calculate(client, 'divide', 8, 2), 'dividing without consent');
    ensure(isUnauthorized(forbidden), `the SDK did not step up: ${forbidden.stack}`);
    same(exchanges.at(-1).status, 403, 'status of divide');
    ensure(exchanges.at(-1).challenge.includes('scope="op:div"'), exchanges.at(-1).challenge);

    scopes = ALL;
    ensure(application.requestedScopes.includes('op:div'), 'the step-up asks for op:div');
    await finish(transport, await application.consent(url));
    same(await calculate(client, 'divide', 8, 2), '4', 'dividing');
    note('stepped up', { scope: application.tokens().scope });

    ensure((await takeBack(browser, new URL(url).origin, passphrase)) >= 2, 'both consents were on the account page');
    const refused = await failure(calculate(client, 'add', 6, 7), 'adding after it was taken back');
    ensure(isUnauthorized(refused), `not refused as unauthorized: ${refused.stack}`);
    const last = exchanges.filter((exchange) => exchange.authorized).at(-1);
    same(last.status, 401, 'status after it was taken back');
    note('taken back');
  }),
);

function open(application) {
  const authProvider = application;
  const fetch = recordingFetch(url, exchanges);
  if (isV1) {
    const client = new v1.Client({ name: 'interop-v1', version: '1.0.0' });
    return { client, transport: new v1http.StreamableHTTPClientTransport(new URL(url), { authProvider, fetch }) };
  }
  const client = new v2.Client({ name: 'interop-v2', version: '1.0.0' }, { versionNegotiation });
  return { client, transport: new v2.StreamableHTTPClientTransport(new URL(url), { authProvider, fetch }) };
}

function finish(transport, answer) {
  return transport.finishAuth(isV1 ? answer.get('code') : answer);
}

function isUnauthorized(error) {
  return error instanceof v1auth.UnauthorizedError || error instanceof v2.UnauthorizedError;
}

async function calculate(client, operation, a, b) {
  const result = await client.callTool({ name: 'calculator', arguments: { operation, a, b } });
  return result.content[0].text;
}
