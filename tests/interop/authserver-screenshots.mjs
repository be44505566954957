// Pictures of all pages of the embedded authorization server, at phone and desktop width, light and dark,
// for docs/screenshots. Serves the calculator with MCP_BRIDGE, a built program, for that.
//
//   MCP_BRIDGE=target/debug/mcp-bridge node authserver-screenshots.mjs FOLDER
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { RULES, signIn } from './browser-consent.mjs';
import { withPage } from './chromium.mjs';

const PASSPHRASE = 'correct horse battery';
const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 900 } };
const { MCP_BRIDGE } = process.env;
const [folder] = process.argv.slice(2);

/** Serves with `flags` and the state in `home` while `visit` runs. */
async function serve(home, flags, visit) {
  const env = { MCP_BRIDGE_STATE_DIR: join(home, 'state') };
  spawnSync(MCP_BRIDGE, ['owner', 'set-passphrase'], { env, input: `${PASSPHRASE}\n` });
  const server = spawn(MCP_BRIDGE, ['serve', '--listen', '127.0.0.1:0', ...flags], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  try {
    for await (const line of createInterface({ input: server.stderr })) {
      const [, origin] = /listening on (http:\S+)\/mcp/.exec(line) ?? [];
      if (origin !== undefined) {
        server.stderr.resume();
        await visit(origin);
        break;
      }
    }
  } finally {
    server.kill();
  }
}

async function request(origin) {
  const body = JSON.stringify({ client_name: 'Example Client', redirect_uris: ['http://127.0.0.1:8/callback'], token_endpoint_auth_method: 'none' });
  const registered = await fetch(`${origin}/register`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const { client_id: client } = await registered.json();
  const challenge = createHash('sha256').update('a'.repeat(43)).digest('base64url');
  const query = new URLSearchParams({
    response_type: 'code', client_id: client, redirect_uri: 'http://127.0.0.1:8/callback', state: 'x',
    code_challenge: challenge, code_challenge_method: 'S256', resource: `${origin}/mcp`,
  });
  return { query, client };
}

/** All pages in one look. */
async function pictures(context, origin, name) {
  const page = await context.newPage();
  // The port is another one each time.
  const shoot = async (what) => {
    await page.evaluate((host) => {
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(host, '127.0.0.1:8808');
    }, new URL(origin).host);
    await page.screenshot({ path: join(folder, `${what}-${name}.png`), fullPage: true });
  };
  const { query, client } = await request(origin);
  const authorize = `${origin}/authorize?${query}`;
  await page.goto(authorize);
  await shoot('sign-in');
  await page.fill('#passphrase', 'wrong');
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  await shoot('sign-in-wrong');
  await page.focus('#passphrase');
  await signIn(page, PASSPHRASE);
  await shoot('consent');
  await page.check('input[name=begun]');
  const sent = page.waitForRequest((asked) => asked.url().startsWith('http://127.0.0.1:8/callback?'));
  const [answer] = await Promise.all([sent, page.locator('button[value=allow]').click({ noWaitAfter: true })]);
  const form = new URLSearchParams({
    grant_type: 'authorization_code', client_id: client, code: new URL(answer.url()).searchParams.get('code'),
    redirect_uri: 'http://127.0.0.1:8/callback', code_verifier: 'a'.repeat(43),
  });
  await fetch(`${origin}/token`, { method: 'POST', body: form });
  await page.close();

  const second = await context.newPage();
  const shootSecond = (what) => second.screenshot({ path: join(folder, `${what}-${name}.png`), fullPage: true });
  await second.goto(`${origin}/account`);
  await second.evaluate((host) => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(host, '127.0.0.1:8808');
  }, new URL(origin).host);
  await shootSecond('account');
  await second.goto(`${origin}/authorize?${query}&redirect_uri=x`);
  await shootSecond('error');
  await second.goto(`${origin}/account`);
  await Promise.all([second.waitForNavigation(), second.click('form[action="/sign-out"] button')]);
  await shootSecond('signed-out');
  await second.close();
}

const home = await mkdtemp(join(tmpdir(), 'pictures-'));
await mkdir(folder, { recursive: true });
try {
  await withPage(RULES, async (first) => {
    const browser = first.context().browser();
    for (const [size, viewport] of Object.entries(SIZES)) {
      for (const colorScheme of ['light', 'dark']) {
        const name = `${size}-${colorScheme}`;
        const part = await mkdtemp(join(home, 'part-'));
        const context = await browser.newContext({ viewport, colorScheme });
        await serve(part, [], (origin) => pictures(context, origin, name));
        await context.close();
        const waiting = await browser.newContext({ viewport, colorScheme });
        await serve(part, ['--approve', 'terminal'], async (origin) => {
          const page = await waiting.newPage();
          await page.goto(`${origin}/account`);
          await page.screenshot({ path: join(folder, `terminal-${name}.png`), fullPage: true });
        });
        await waiting.close();
      }
    }
  });
} finally {
  await rm(home, { recursive: true, force: true });
}
