// What every client of the calculator must see, whichever SDK and era it speaks.
import { setTimeout } from 'node:timers/promises';
import { ensure, note, same } from './transcript.mjs';

export const OPERATIONS = ['add', 'subtract', 'multiply', 'divide'];

/** Calls that have an answer: arguments, then text, then whether it is a tool error. */
const ANSWERS = [
  [{ operation: 'add', a: 6, b: 7 }, '13', false],
  [{ operation: 'add', a: 0.1, b: 0.2 }, '0.30000000000000004', false],
  [{ operation: 'subtract', a: 5, b: 5 }, '0', false],
  [{ operation: 'multiply', a: 1e300, b: 1e10 }, 'Infinity', false],
  [{ operation: 'multiply', a: 1e20, b: 10 }, '1e+21', false],
  [{ operation: 'divide', a: 1, b: 0 }, 'Error: Division by zero', true],
];

/** `list` gives the tools, `call(name, arguments)` a tool's result. */
export async function useCalculator({ list, call }) {
  const tools = await list();
  checkTools(tools);
  note('tools', { names: tools.map((tool) => tool.name) });

  for (const [args, text, isError] of ANSWERS) {
    const result = await call('calculator', args);
    const what = JSON.stringify(args);
    same(result.content?.map(({ type, text }) => ({ type, text })), [{ type: 'text', text }], `content of ${what}`);
    same(result.isError ?? false, isError, `isError of ${what}`);
    note('call', { args, text, isError });
  }

  const unknown = await refusal(call('no-such-tool', {}));
  ensure(unknown.includes('no-such-tool'), `the refusal of an unknown tool does not name it: ${unknown}`);
  note('unknown tool', { refusal: unknown });

  const wrong = await refusal(call('calculator', { operation: 'power', a: 1, b: 2 }));
  for (const operation of OPERATIONS) {
    ensure(wrong.includes(operation), `the refusal of a wrong operation does not name ${operation}: ${wrong}`);
  }
  note('wrong operation', { refusal: wrong });

  const missing = await refusal(call('calculator', { operation: 'add', a: 1 }));
  ensure(/\bb\b/.test(missing), `the refusal of a missing argument does not name it: ${missing}`);
  note('missing argument', { refusal: missing });
}

function checkTools(tools) {
  same(tools.map((tool) => tool.name), ['calculator'], 'tools');
  const { description, inputSchema } = tools[0];
  same(description, 'Perform basic math operations', 'description');
  same(inputSchema.type, 'object', 'inputSchema.type');
  same([...inputSchema.required].sort(), ['a', 'b', 'operation'], 'inputSchema.required');
  const { operation, a, b } = inputSchema.properties;
  same(operation.enum, OPERATIONS, 'the schema of operation');
  same([a.type, b.type], ['number', 'number'], 'the types of a and b');
}

/** The text with which a call is refused: a JSON-RPC error, or a tool's error. */
async function refusal(call) {
  const outcome = await call.catch((error) => ({ thrown: error }));
  if (outcome.thrown !== undefined) return outcome.thrown.message;
  same(outcome.isError, true, 'a wrong call was answered; isError');
  return outcome.content.map((part) => part.text).join('\n');
}

/** The server's own name and version. */
export function checkIdentity(server, era) {
  same(server?.name, 'Calculator', 'server name');
  ensure(/^\d+\.\d+\.\d+/.test(server?.version), `server version ${server?.version}`);
  note('connected', { era, version: server.version });
}

/**
 * What the exchanges of one client over HTTP must look like: in the legacy era a session in every
 * request but the first and a DELETE at the end; in the modern era POSTs alone, and no session.
 */
export async function checkExchanges(exchanges, era) {
  const posts = exchanges.filter(({ method }) => method === 'POST');
  ensure(posts.length > 0, 'nothing was recorded');
  if (era === 'legacy') {
    same(posts[0].asked, 'initialize', 'first request');
    for (const { asked, session } of posts.slice(1)) same(session, true, `session in ${asked}`);
    const deleted = exchanges.filter(({ method }) => method === 'DELETE');
    same(deleted.length, 1, 'number of DELETE requests');
    ensure([200, 202, 204].includes(deleted[0].status), `DELETE was answered ${deleted[0].status}`);
  } else {
    same(exchanges.length, posts.length, 'requests other than POST');
    for (const { asked, session, version } of posts) {
      same([session, version], [false, '2026-07-28'], `session and version of ${asked}`);
    }
  }
  note('exchanges', { exchanges });
}

/** Waits until the server has answered the GET that the SDK sends beside everything else. */
export async function streamIsOpen(exchanges) {
  const isStream = ({ method, status, type }) => method === 'GET' && status === 200 && type?.startsWith('text/event-stream');
  for (let tries = 0; tries < 200 && !exchanges.some(({ method }) => method === 'GET'); tries += 1) await setTimeout(25);
  ensure(exchanges.some(isStream), 'the server answered no GET with an event stream within 5 s');
}

/** After DELETE, the session must be gone. */
export async function checkSessionIsGone(url, sessionId, headers) {
  ensure(typeof sessionId === 'string' && sessionId.length > 0, 'the server gave no session id');
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      ...headers,
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-11-25',
      'mcp-session-id': sessionId,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
  });
  same(response.status, 404, 'status of a request in a deleted session');
  note('session is gone');
}

