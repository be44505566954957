// A web page in a real browser (Chromium) as a client of the bridge: what its rules about origins
// let the page do and see.
//
//   MCP_TOKEN=… node browser-cors.mjs HOST URL
//
// The page is served from a free port of this machine under the name HOST, which the browser
// resolves to 127.0.0.1 whatever it is. The page does the same under every name; the transcript says
// what came of it, and the test judges.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { withPage } from './chromium.mjs';
import { main, note } from './transcript.mjs';

const [host, url] = process.argv.slice(2);
const token = process.env.MCP_TOKEN;

main(async () => {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<title>A client</title>'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  // What DNS rebinding does: a stranger's name that leads to this machine. No other name resolves.
  const rules = `MAP ${host} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`;
  await withPage(rules, (page) => visit(page, `http://${host}:${server.address().port}/`));
});

async function visit(page, address) {
  await page.goto(address);
  for (const { step, ...facts } of await page.evaluate(useBridge, { url, token })) note(step, facts);
  // The name with the bridge's port is an origin of its own: here no CORS protects the bridge.
  const rebound = await page.goto(Object.assign(new URL(url), { hostname: host }).href);
  note('name bound to the bridge', { status: rebound.status() });
}

/** Runs in the page; knows nothing of this file. */
async function useBridge({ url, token }) {
  const steps = [];
  const attempt = async (step, target, init) => {
    try {
      const response = await fetch(target, init);
      const answer = { status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() };
      steps.push({ step, ...answer });
      return answer;
    } catch (error) {
      // Whatever the browser forbids is this one error; the page learns no more.
      steps.push({ step, blocked: error.name });
      return undefined;
    }
  };
  const post = (step, headers, message) =>
    attempt(step, url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', ...headers },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...message }),
    });

  const name = 'io.modelcontextprotocol/';
  const meta = { [`${name}protocolVersion`]: '2026-07-28', [`${name}clientInfo`]: { name: 'page', version: '1' }, [`${name}clientCapabilities`]: {} };
  const call = {
    method: 'tools/call',
    params: { name: 'calculator', arguments: { operation: 'add', a: 6, b: 3 }, _meta: meta },
  };
  const modern = { 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'calculator' };
  const authorization = { Authorization: `Bearer ${token}` };

  const stranger = await post('without token', modern, call);
  const metadata = /resource_metadata="([^"]+)"/.exec(stranger?.headers['www-authenticate'])?.[1];
  if (metadata !== undefined) await attempt('metadata', metadata, { headers: { 'MCP-Protocol-Version': '2026-07-28' } });
  await post('modern call', { ...modern, ...authorization }, call);

  const initialize = {
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1' } },
  };
  const opened = await post('initialize', authorization, initialize);
  const session = { 'MCP-Protocol-Version': '2025-11-25', 'Mcp-Session-Id': opened?.headers['mcp-session-id'] ?? 'unknown' };
  const { _meta, ...legacy } = call.params;
  await post('legacy call', { ...session, ...authorization }, { ...call, params: legacy });
  await attempt('end of session', url, { method: 'DELETE', headers: { ...session, ...authorization } });

  // Asks no permission first, as a form would: the bridge itself has to refuse it.
  await attempt('simple request', url, { method: 'POST', mode: 'no-cors', body: JSON.stringify(call) });
  return steps;
}
