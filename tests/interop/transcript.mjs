// What the Node programs of this folder share: a transcript, checks, and a fetch that records.
import assert from 'node:assert/strict';

/** No program of this folder may run longer, whatever hangs. */
const DEADLINE_MS = 60_000;

/** What happened, in order; printed as JSON at the end, also after a failure. */
export const transcript = [];

export function note(step, facts = {}) {
  transcript.push({ step, ...facts });
}

/** Fails unless `actual` equals `expected`, naming both. */
export function same(actual, expected, what) {
  assert.deepStrictEqual(actual, expected, `${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

export function ensure(condition, what) {
  assert.ok(condition, what);
}

/** The error that `promise` fails with; fails itself when there is none. */
export async function failure(promise, what) {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  ensure('error' in outcome, `${what}: expected an error, got ${JSON.stringify(outcome.value)}`);
  return outcome.error;
}

/**
 * A fetch that remembers each exchange with `url` in `exchanges`: method, what was asked, whether a
 * session was named, status, content type and challenge. Never a token, a session id or a body.
 */
export function recordingFetch(url, exchanges) {
  return async (input, init) => {
    const response = await fetch(input, init);
    if (String(input) === String(url)) {
      const headers = new Headers(init?.headers);
      let asked;
      if (typeof init?.body === 'string') {
        const message = JSON.parse(init.body);
        asked = message.params?.name === undefined ? message.method : `${message.method} ${message.params?.arguments?.operation}`;
      }
      exchanges.push({
        method: init?.method ?? 'GET',
        asked,
        version: headers.get('mcp-protocol-version') ?? undefined,
        session: headers.has('mcp-session-id'),
        authorized: headers.has('authorization'),
        status: response.status,
        type: response.headers.get('content-type') ?? undefined,
        challenge: response.headers.get('www-authenticate') ?? undefined,
      });
    }
    return response;
  };
}

/** Runs `program`, prints the transcript, and exits 0 or, with the reason on stderr, 1. */
export async function main(program) {
  const overdue = setTimeout(() => finish(new Error(`not done after ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  let error;
  try {
    await program();
  } catch (caught) {
    error = caught;
  }
  clearTimeout(overdue);
  finish(error);
}

function finish(error) {
  const text = JSON.stringify({ ok: error === undefined, transcript }, null, 1);
  if (error !== undefined) console.error(`failed after "${transcript.at(-1)?.step ?? 'start'}": ${error.stack}`);
  // Exits only when the pipe has taken everything.
  process.stdout.write(`${text}\n`, () => process.exit(error === undefined ? 0 : 1));
}
