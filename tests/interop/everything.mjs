// The official TypeScript SDKs as clients of a server that asks, reports, logs and changes.
//
//   node everything.mjs v1|v2|v2-modern URL
//
// The server may be of either era, whatever the client's.
import { connect, reported } from './sdks.mjs';
import { ensure, failure, main, note, same } from './transcript.mjs';

const WATCHED = 'test://watched-resource';
const PATIENCE_MS = 10_000;

/** How a person, a model and a file system answer; and what they were asked. */
const asked = [];
const answers = {
  'elicitation/create': ({ requestedSchema }) => {
    const properties = Object.keys(requestedSchema.properties);
    asked.push(properties.join());
    return { action: 'accept', content: Object.fromEntries(properties.map((name) => [name, `my ${name}`])) };
  },
  'sampling/createMessage': ({ messages }) => {
    asked.push(messages[0].content.text);
    return { role: 'assistant', model: 'none', content: { type: 'text', text: 'Paris' } };
  },
  'roots/list': () => {
    asked.push('roots');
    return { roots: [{ uri: 'file:///home', name: 'home' }] };
  },
};

const heard = [];
const hears = {
  'notifications/message': ({ data }) => void heard.push(data),
  'notifications/resources/updated': ({ uri }) => void heard.push(`updated ${uri}`),
  'notifications/tools/list_changed': () => void heard.push('tools changed'),
};

main(async () => {
  const [kind, url] = process.argv.slice(2);
  const { client, call, isModern, exchanges } = await connect(kind, url, { answers, hears });

  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  for (const name of ['test_sampling', 'test_input_required_result_multi_round', 'touch']) ensure(tools.includes(name), `no tool ${name}`);

  const progress = [];
  same(await call('progress_n', { n: 5 }, { onprogress: (report) => progress.push(report.progress) }), '5', 'result');
  reported(progress, [1, 2, 3, 4, 5], exchanges);
  note('progress');

  const form = 'User response: action=accept, content={"email":"my email","username":"my username"}';
  same(await call('test_elicitation', { message: 'Who?' }), form, 'the form');
  same(await call('test_sampling', { prompt: 'Capital?' }), 'LLM response: Paris', "the model's answer");
  same(await call('test_list_roots'), 'Roots: [{"name":"home","uri":"file:///home"}]', 'roots');
  same(await call('test_input_required_result_multi_round'), 'Color: my color', 'two rounds');
  same(await call('test_input_required_result_multiple_inputs'), 'Paris my name', 'three questions at once');
  const prompt = await client.getPrompt({ name: 'test_input_required_result_prompt' });
  same(prompt.messages[0].content.text, 'Use this context: my context', 'a prompt that asks');
  // Those of one round in whichever order they came.
  same(asked.splice(0, 5), ['email,username', 'Capital?', 'roots', 'name', 'color'], 'questions');
  same(asked.splice(0, 3).sort(), ['Generate a greeting', 'name', 'roots'], 'questions at once');
  same(asked, ['context'], 'the question of the prompt');
  note('asked');

  if (!isModern) await client.setLoggingLevel('info');
  await call('test_tool_with_logging', {}, {}, isModern ? { 'io.modelcontextprotocol/logLevel': 'info' } : undefined);
  const steps = ['Tool execution started', 'Tool processing data', 'Tool execution completed'];
  same(heard.splice(0), steps, 'log messages before the result');
  note('logged');

  const filter = { resourceSubscriptions: [WATCHED], toolsListChanged: true };
  const subscription = isModern ? await client.listen(filter) : await client.subscribeResource({ uri: WATCHED });
  if (isModern) same(subscription.honoredFilter, filter, 'what is granted');
  await call('touch', { uri: WATCHED, lists: true });
  const changes = [`updated ${WATCHED}`, 'tools changed'];
  await until(() => changes.every((change) => heard.includes(change)), () => `changes: ${heard}`);
  if (isModern) await subscription.close();
  else await client.unsubscribeResource({ uri: WATCHED });
  note('changes');

  const before = Number(await call('count'));
  const giveUp = new AbortController();
  const sleeping = failure(call('sleep', { ms: 50_000 }, { signal: giveUp.signal }), 'a call that was given up');
  let polls = 0;
  await until(async () => Number(await call('count')) - before > (polls += 1), () => 'the call never ran');
  giveUp.abort();
  await sleeping;
  // A client that closes takes back what it has not sent. In the modern era, the end of the request says it.
  const told = () => exchanges.some(({ asked }) => asked === 'notifications/cancelled');
  if (!isModern && exchanges !== undefined) await until(told, () => 'the server was not told');
  note('cancelled');
  await client.close();
});

async function until(happened, what) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await happened())) {
    ensure(Date.now() < end, `in vain: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
