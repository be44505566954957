// The user's browser (Chromium) at the embedded authorization server: signs in with the keyboard, ticks
// what FILE says, allows it, and says where that has led. FILE is JSON: passphrase, scopes.
//
//   node browser-consent.mjs URL FILE [CALLBACK]
//
// With CALLBACK nobody listens there: the browser only says how it was sent there.
import { readFile } from 'node:fs/promises';
import { withPage } from './chromium.mjs';
import { ensure, main, note, same } from './transcript.mjs';

export const RULES = 'MAP * ~NOTFOUND, EXCLUDE 127.0.0.1';

/** Enters the passphrase at `page`, if it asks for one. Nothing but the keyboard is needed. */
export async function signIn(page, passphrase) {
  if ((await page.$('#passphrase[autocomplete=current-password]')) === null) return;
  same(await page.evaluate(() => document.activeElement.id), 'passphrase', 'where the cursor is');
  await page.keyboard.type(passphrase);
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
}

/** Lets the client in that has sent the browser `context` to `url`; gives the address that the answer went to. */
export async function allow(context, url, { passphrase, scopes }, callback) {
  // A tab of its own: what happens in it after the answer disturbs nobody.
  const page = await context.newPage();
  await page.goto(url);
  await signIn(page, passphrase);
  const boxes = await page.$$('input[name=scope]');
  ensure(boxes.length > 0, `there is nothing to tick: ${await page.textContent('body')}`);
  const offered = [];
  for (const box of boxes) {
    const scope = await box.getAttribute('value');
    offered.push(scope);
    ensure(await box.isChecked(), `${scope} is not ticked at first`);
    await box.setChecked(scopes.includes(scope));
  }
  // A client that was never connected: one click more, at another place.
  const begun = await page.$('input[name=begun]');
  if (begun !== null) {
    ensure(!(await begun.isChecked()), 'it is for the user to say that they have begun it');
    await begun.check();
  }
  const button = page.locator('button[value=allow]');
  if (callback !== undefined) {
    const sent = page.waitForRequest((request) => request.url().startsWith(`${callback}?`));
    const [request] = await Promise.all([sent, button.click({ noWaitAfter: true })]);
    return { offered: offered.sort(), answer: new URL(request.url()) };
  }
  const isOurs = (address) => ['/authorize', '/consent'].includes(address.pathname);
  await Promise.all([page.waitForURL((address) => !isOurs(address)), button.click()]);
  return { offered: offered.sort(), answer: new URL(page.url()) };
}

/** Takes back everything that is on the account page of the server at `origin`. */
export async function takeBack(context, origin, passphrase) {
  const page = await context.newPage();
  await page.goto(`${origin}/account`);
  await signIn(page, passphrase);
  let revoked = 0;
  for (;;) {
    const button = await page.$('form[action="/account/revoke"] button');
    if (button === null) return revoked;
    await Promise.all([page.waitForNavigation(), button.click()]);
    ensure((await page.textContent('[role=status]')).includes('not connected any more'), 'the page says what it did');
    revoked += 1;
  }
}

if (import.meta.filename === process.argv[1]) {
  const [url, file, callback] = process.argv.slice(2);
  main(async () => {
    const consent = JSON.parse(await readFile(file, 'utf8'));
    await withPage(RULES, async (first) => {
      const context = first.context();
      const complaints = [];
      context.on('console', (message) => complaints.push(message.text()));
      context.on('weberror', (error) => complaints.push(String(error.error())));
      if (consent.revoke) {
        note('revoked', { count: await takeBack(context, new URL(url).origin, consent.passphrase) });
      } else {
        const { offered, answer } = await allow(context, url, consent, callback);
        note('allowed', { offered, answer: Object.fromEntries(answer.searchParams) });
      }
      note('complaints', { complaints });
    });
  });
}
