// The official TypeScript SDK, version 1, as a client of the calculator.
//
//   node client-v1.mjs stdio PROGRAM [ARGUMENT]…
//   node client-v1.mjs http URL    (with a bearer token in MCP_TOKEN, if it is set)
//   node client-v1.mjs sse URL     (the same over HTTP+SSE, at URL/sse)
//
// Version 1 speaks the legacy era only.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { checkExchanges, checkIdentity, checkSessionIsGone, streamIsOpen, useCalculator } from './calculator.mjs';
import { main, note, recordingFetch, same } from './transcript.mjs';

const [kind, target, ...args] = process.argv.slice(2);
const token = process.env.MCP_TOKEN;

main(async () => {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const exchanges = [];
  const open = {
    stdio: () => new StdioClientTransport({ command: target, args }),
    http: () =>
      new StreamableHTTPClientTransport(new URL(target), { fetch: recordingFetch(target, exchanges), requestInit: { headers } }),
    sse: () => new SSEClientTransport(new URL(`${target}/sse`), { requestInit: { headers } }),
  };
  const transport = open[kind]();
  const errors = [];
  const client = new Client({ name: 'interop-v1', version: '1.0.0' });
  client.onerror = (error) => errors.push(error.message);
  await client.connect(transport);
  checkIdentity(client.getServerVersion(), 'legacy');
  await client.ping();
  await useCalculator({
    list: async () => (await client.listTools()).tools,
    call: (name, args) => client.callTool({ name, arguments: args }),
  });
  same(errors, [], 'errors outside of calls');
  const { sessionId } = transport;
  if (kind === 'http') {
    await streamIsOpen(exchanges);
    await transport.terminateSession();
  }
  await client.close();
  note('closed');
  if (kind === 'http') {
    await checkExchanges(exchanges, 'legacy');
    await checkSessionIsGone(target, sessionId, headers);
  }
});
