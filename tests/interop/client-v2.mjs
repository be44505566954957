// The official TypeScript SDK, version 2, as a client of the calculator in both eras.
//
//   node client-v2.mjs stdio PROGRAM [ARGUMENT]…
//   node client-v2.mjs http URL    (with a bearer token in MCP_TOKEN, if it is set)
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { checkExchanges, checkIdentity, checkSessionIsGone, streamIsOpen, useCalculator } from './calculator.mjs';
import { main, note, recordingFetch, same } from './transcript.mjs';

const [kind, target, ...args] = process.argv.slice(2);
const token = process.env.MCP_TOKEN;

/** How the client chooses an era, and the era that it must end up in. */
const MODES = [
  ['legacy', 'legacy'],
  [{ pin: '2026-07-28' }, 'modern'],
  ['auto', 'modern'],
];

main(async () => {
  for (const [mode, era] of MODES) {
    note('mode', { mode });
    await visit(mode, era);
  }
});

async function visit(mode, era) {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const exchanges = [];
  const transport =
    kind === 'stdio'
      ? new StdioClientTransport({ command: target, args })
      : new StreamableHTTPClientTransport(new URL(target), { fetch: recordingFetch(target, exchanges), requestInit: { headers } });
  const errors = [];
  const client = new Client({ name: 'interop-v2', version: '1.0.0' }, { versionNegotiation: { mode } });
  client.onerror = (error) => errors.push(error.message);
  await client.connect(transport);
  same(client.getProtocolEra(), era, 'era');
  checkIdentity(client.getServerVersion(), era);
  if (era === 'legacy') await client.ping();
  await useCalculator({
    list: async () => (await client.listTools()).tools,
    call: (name, args) => client.callTool({ name, arguments: args }),
  });
  same(errors, [], 'errors outside of calls');
  const { sessionId } = transport;
  if (kind === 'http' && era === 'legacy') {
    await streamIsOpen(exchanges);
    await transport.terminateSession();
  }
  await client.close();
  note('closed');
  if (kind === 'http') {
    await checkExchanges(exchanges, era);
    if (era === 'legacy') await checkSessionIsGone(target, sessionId, headers);
  }
}
