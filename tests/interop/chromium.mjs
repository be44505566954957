// A real browser: Chromium, headless, with a profile of its own that is gone afterwards.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

// Debian's package; `tests/run` installs it.
const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  // Tests may run as root, where Chromium has no sandbox; every page it sees here is ours.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Calls `visit` with a page; `rules` says which names the browser can resolve. */
export async function withPage(rules, visit) {
  const home = await mkdtemp(join(tmpdir(), 'browser-'));
  const args = [...FLAGS, `--host-resolver-rules=${rules}`];
  const browser = await chromium.launch({ executablePath: CHROMIUM, args, env: { HOME: home, PATH: '/usr/bin:/bin' } });
  try {
    await visit(await (await browser.newContext()).newPage());
  } finally {
    await browser.close();
    await rm(home, { recursive: true, force: true });
  }
}
