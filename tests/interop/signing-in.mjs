// The official TypeScript SDKs as clients of a server of the official Python SDK that wants a sign-in,
// which is MCP_BRIDGE's business.
//
//   MCP_BRIDGE=… node signing-in.mjs v1|v2|v2-modern URL
import { connect, reported } from './sdks.mjs';
import { main, note, same } from './transcript.mjs';

main(async () => {
  const { client, call, exchanges } = await connect(...process.argv.slice(2));
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  same(tools.sort(), ['count', 'echo'], 'tools');
  same(await call('echo', { message: 'Grüße' }), 'Echo: Grüße', 'echo');
  const progress = [];
  const onprogress = (report) => progress.push([report.progress, report.total]);
  same(await call('count', { steps: 3 }, { onprogress }), '3 steps', 'count');
  reported(progress, [1, 2, 3].map((step) => [step, 3]), exchanges);
  await client.close();
  note('used');
});
