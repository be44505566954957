// The official TypeScript SDKs behind one face, for what is the same in both.
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as StdioV2 } from '@modelcontextprotocol/client/stdio';
import { StdioClientTransport as StdioV1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as HttpV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { recordingFetch, same } from './transcript.mjs';

/** What version 1 knows a method by. */
const SCHEMAS = {
  'elicitation/create': ElicitRequestSchema,
  'sampling/createMessage': CreateMessageRequestSchema,
  'roots/list': ListRootsRequestSchema,
  'notifications/message': LoggingMessageNotificationSchema,
  'notifications/resources/updated': ResourceUpdatedNotificationSchema,
  'notifications/tools/list_changed': ToolListChangedNotificationSchema,
};

/**
 * A client of `kind` that is connected: `v1` and `v2` in the legacy era, `v2-modern` in the modern
 * one. `answers` has a function for each request that a server may send, `hears` one for each
 * notification. Exchanges over HTTP are recorded. With MCP_BRIDGE in the environment, the client speaks
 * stdio to that program, which connects to the URL; then there is nothing to record.
 */
export async function connect(kind, url, { answers = {}, hears = {} } = {}) {
  const isModern = kind === 'v2-modern';
  const info = { name: `interop-${kind}`, version: '1.0.0' };
  const capabilities = Object.keys(answers).length === 0 ? {} : { elicitation: { form: {} }, sampling: {}, roots: {} };
  const versionNegotiation = { mode: isModern ? { pin: '2026-07-28' } : 'legacy' };
  const client = kind === 'v1' ? new ClientV1(info, { capabilities }) : new ClientV2(info, { capabilities, versionNegotiation });
  const named = (method) => (kind === 'v1' ? SCHEMAS[method] : method);
  for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(named(method), async ({ params }) => answer(params));
  for (const [method, hear] of Object.entries(hears)) client.setNotificationHandler(named(method), ({ params }) => hear(params));
  const { MCP_BRIDGE } = process.env;
  const exchanges = MCP_BRIDGE === undefined ? [] : undefined;
  const [Stdio, Http] = kind === 'v1' ? [StdioV1, HttpV1] : [StdioV2, HttpV2];
  const transport =
    MCP_BRIDGE === undefined
      ? new Http(new URL(url), { fetch: recordingFetch(url, exchanges) })
      : new Stdio({ command: MCP_BRIDGE, args: ['connect', url], stderr: 'inherit' });
  await client.connect(transport);

  /** The first text of a tool's result. */
  async function call(name, args = {}, options = {}, meta = undefined) {
    const params = { name, arguments: args, ...(meta && { _meta: meta }) };
    const result = await (kind === 'v1' ? client.callTool(params, undefined, options) : client.callTool(params, options));
    same(result.isError ?? false, false, `${name}: ${JSON.stringify(result.content)}`);
    return result.content[0].text;
  }
  return { client, call, isModern, exchanges };
}

/**
 * Checks what was reported before a result. Over stdio the SDKs look at an answer before they run the
 * handlers of what came in the same chunk, and then forget those: the rest of the reports is lost.
 */
export function reported(progress, expected, exchanges) {
  same(progress, exchanges === undefined ? expected.slice(0, progress.length) : expected, 'progress');
}
