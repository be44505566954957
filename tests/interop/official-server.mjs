// The official TypeScript SDKs as clients of @modelcontextprotocol/server-everything, which is of the
// legacy era.
//
//   node official-server.mjs v1|v2|v2-modern URL
import { connect, reported } from './sdks.mjs';
import { ensure, main, note, same } from './transcript.mjs';

main(async () => {
  const { client, call, exchanges } = await connect(...process.argv.slice(2));
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  for (const name of ['echo', 'get-sum', 'trigger-long-running-operation']) ensure(tools.includes(name), `no tool ${name}: ${tools}`);
  same(await call('echo', { message: 'Grüße' }), 'Echo: Grüße', 'echo');
  note('echo');
  const progress = [];
  const onprogress = (report) => progress.push([report.progress, report.total]);
  const said = await call('trigger-long-running-operation', { duration: 0.2, steps: 4 }, { onprogress });
  same(said, 'Long running operation completed. Duration: 0.2 seconds, Steps: 4.', 'result');
  reported(progress, [1, 2, 3, 4].map((step) => [step, 4]), exchanges);
  note('progress');
  await client.close();
});
