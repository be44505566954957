// An MCP server without tools, for a runtime that compiles while it runs.
const answer = (id, result) => console.log(JSON.stringify({ jsonrpc: '2.0', id, ...result }));
require('readline').createInterface({ input: process.stdin }).on('line', line => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  if (method === 'initialize') {
    answer(id, { result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'server', version: '1' } } });
  } else if (method === 'tools/list') {
    answer(id, { result: { tools: [] } });
  } else {
    answer(id, { error: { code: -32601, message: 'no such method' } });
  }
});
