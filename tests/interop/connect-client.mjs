// A client of `mcp-bridge connect` that does what a scenario of the official conformance suite asks,
// which watches the other side of the bridge.
//
//   MCP_BRIDGE=PROGRAM node connect-client.mjs URL    (with the variables that the suite sets)
//
// It speaks stdio with nothing between it and the bridge, so that what the suite sees of a message is
// the bridge's doing.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const url = process.argv.at(-1);
const { MCP_BRIDGE, MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION, MCP_CONFORMANCE_CONTEXT } = process.env;
const context = JSON.parse(MCP_CONFORMANCE_CONTEXT ?? '{}');
const MODERN = '2026-07-28';
const isModern = MCP_CONFORMANCE_PROTOCOL_VERSION === MODERN;
const CAPABILITIES = { roots: {}, sampling: {}, elicitation: {} };
const CLIENT = { name: 'conformance-client', version: '1.0.0' };

/** How the bridge signs in: with nothing that outlives it, and as the client that the scenario knows. */
const signIn = {
  flags: ['--no-browser', '--token-store', 'memory'],
  env: context.client_secret === undefined ? {} : { MCP_BRIDGE_CLIENT_SECRET: context.client_secret },
};
if (context.client_id !== undefined) signIn.flags.push('--client-id', context.client_id);
if (context.client_secret !== undefined) signIn.flags.push('--issuer', await issuer());
if (MCP_CONFORMANCE_SCENARIO === 'auth/basic-cimd') {
  signIn.flags.push('--client-metadata-url', 'https://conformance-test.local/client-metadata.json');
}

/** Where the client was registered. Whoever did that knows it; the suite tells it through the server only. */
async function issuer() {
  for (const path of ['/.well-known/oauth-protected-resource/mcp', '/.well-known/oauth-protected-resource']) {
    const response = await fetch(new URL(path, url));
    if (response.ok) return (await response.json()).authorization_servers[0];
  }
  throw new Error('the server names no authorization server');
}

/** One bridge, and the requests that wait for it. */
class Bridge {
  #child = spawn(MCP_BRIDGE, ['connect', url, '--log-level', 'debug', ...signIn.flags], { env: signIn.env });
  #waiting = new Map();
  #lastId = 0;
  #ended = new Promise((resolve) => this.#child.on('close', resolve));

  constructor() {
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(JSON.parse(line)));
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      console.error(line);
      // What the user is asked to open stands on a line of its own.
      const [, page] = /^ {2}(https?:\/\/\S+)$/.exec(line) ?? [];
      if (page !== undefined) visit(page);
    });
  }

  #hear(message) {
    if (message.method !== undefined) {
      if (message.id !== undefined) this.#send({ id: message.id, result: answer(message) });
      return;
    }
    this.#waiting.get(message.id)?.(message);
    this.#waiting.delete(message.id);
  }

  #send(message) {
    this.#child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  notify(method) {
    this.#send({ method });
  }

  /** The whole answer, an error or not. */
  async ask(method, params = {}, version = MODERN) {
    const id = (this.#lastId += 1);
    const _meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientInfo': CLIENT,
      'io.modelcontextprotocol/clientCapabilities': CAPABILITIES,
    };
    const answered = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.#send({ id, method, params: isModern ? { _meta, ...params } : params });
    return answered;
  }

  async result(method, params) {
    const answered = await this.ask(method, params);
    if (answered.error !== undefined) throw new Error(`${method}: ${JSON.stringify(answered.error)}`);
    return answered.result;
  }

  async call(name, args = {}, rest = {}) {
    return this.result('tools/call', { name, arguments: args, ...rest });
  }

  async open() {
    if (isModern) return;
    const protocolVersion = MCP_CONFORMANCE_PROTOCOL_VERSION ?? '2025-11-25';
    await this.result('initialize', { protocolVersion, capabilities: CAPABILITIES, clientInfo: CLIENT });
    this.notify('notifications/initialized');
  }

  async close() {
    this.#child.stdin.end();
    const code = await this.#ended;
    if (code !== 0) throw new Error(`the bridge ended with ${code}`);
  }
}

/** A browser: goes where it is sent, up to the bridge's own page. */
async function visit(page) {
  const shown = await fetch(page).catch((error) => error);
  console.error(`visited: ${shown.status ?? shown}`);
}

/** What a user would answer, who accepts what is proposed. */
function answer({ method, params }) {
  if (method !== 'elicitation/create') return {};
  const properties = Object.entries(params.requestedSchema?.properties ?? {});
  const content = properties.map(([name, schema]) => [name, schema.default ?? true]);
  return { action: 'accept', content: Object.fromEntries(content) };
}

/** Calls `name`, and again with what it wants to know. */
async function callWithInput(bridge, name) {
  const first = await bridge.call(name);
  if (first.resultType !== 'input_required') return;
  const asked = Object.entries(first.inputRequests ?? {});
  const inputResponses = Object.fromEntries(asked.map(([key]) => [key, { action: 'accept', content: { confirmed: true } }]));
  // Something unrelated in between, which must carry none of it.
  await bridge.call('test_mrtr_unrelated');
  const { requestState } = first;
  await bridge.call(name, {}, { inputResponses, ...(requestState !== undefined && { requestState }) });
}

const SCENARIOS = {
  async tools_call(bridge) {
    const [tool] = (await bridge.result('tools/list')).tools;
    await bridge.call(tool.name, { a: 2, b: 3 });
  },
  async initialize(bridge) {
    await bridge.result('tools/list');
  },
  async 'json-schema-ref-no-deref'(bridge) {
    await bridge.result('tools/list');
  },
  async 'json-schema-2020-12-preservation'(bridge) {
    const { tools } = await bridge.result('tools/list');
    const { inputSchema } = tools.find(({ name }) => name === 'json_schema_2020_12_tool');
    await bridge.call('json_schema_echo', { schema: inputSchema });
  },
  async 'elicitation-sep1034-client-defaults'(bridge) {
    await bridge.call('test_client_elicitation_defaults');
  },
  async 'sse-retry'(bridge) {
    await bridge.call('test_reconnection');
  },
  async 'request-metadata'(bridge) {
    const refused = await bridge.ask('server/discover');
    if (refused.error?.code !== -32022) throw new Error(`not a refusal: ${JSON.stringify(refused)}`);
    await bridge.result('server/discover');
    await bridge.result('tools/list');
  },
  async 'sep-2322-client-request-state'(bridge) {
    await callWithInput(bridge, 'test_mrtr_echo_state');
    await callWithInput(bridge, 'test_mrtr_no_state');
    await bridge.call('test_mrtr_no_result_type');
  },
  async 'http-standard-headers'(bridge) {
    for (const { name } of (await bridge.result('tools/list')).tools) await bridge.call(name);
    for (const { uri } of (await bridge.result('resources/list')).resources) await bridge.result('resources/read', { uri });
    for (const { name } of (await bridge.result('prompts/list')).prompts) await bridge.result('prompts/get', { name });
  },
  async 'http-custom-headers'(bridge) {
    await bridge.result('tools/list');
    for (const { name, arguments: args } of context.toolCalls) await bridge.call(name, args);
  },
  async 'http-invalid-tool-headers'(bridge) {
    // A client calls what it is shown.
    for (const { name } of (await bridge.result('tools/list')).tools) await bridge.call(name, { region: 'us-west1' });
  },
};

/** All scenarios about signing in watch the same: some requests, one of which may need more. */
async function useProtected(bridge) {
  await bridge.result('tools/list');
  await bridge.call('test-tool');
}

const scenario = MCP_CONFORMANCE_SCENARIO.startsWith('auth/') ? useProtected : SCENARIOS[MCP_CONFORMANCE_SCENARIO];
if (scenario === undefined) throw new Error(`nothing is known about ${MCP_CONFORMANCE_SCENARIO}`);
const bridge = new Bridge();
await bridge.open();
await scenario(bridge);
await bridge.close();
