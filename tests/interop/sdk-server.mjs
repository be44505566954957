// A server of the official TypeScript SDK over streamable HTTP on a free loopback port, as its
// documentation writes one: sessions, JSON or event streams, and nobody is asked to sign in.
//
//   node sdk-server.mjs
//
// Prints one JSON line when it accepts connections: {"url"}. It ends when its standard input does.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const transports = new Map();

async function open() {
  const server = new McpServer({ name: 'sdk-server', version: '1.0.0' });
  server.registerTool('echo', { description: 'Says nothing' }, async () => ({ content: [] }));
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => transports.set(id, transport),
    onsessionclosed: (id) => transports.delete(id),
  });
  await server.connect(transport);
  return transport;
}

const http = createServer(async (request, response) => {
  if (request.url !== '/mcp') return response.writeHead(404).end();
  const transport = transports.get(request.headers['mcp-session-id']) ?? (await open());
  return transport.handleRequest(request, response);
});
http.listen(0, '127.0.0.1');
await once(http, 'listening');
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
console.log(JSON.stringify({ url: `http://127.0.0.1:${http.address().port}/mcp` }));
