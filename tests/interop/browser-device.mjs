// The user's browser (Chromium) on another machine: opens URL, enters CODE, confirms, and says what it
// shows in the end.
//
//   node browser-device.mjs URL CODE
import { withPage } from './chromium.mjs';
import { main, note } from './transcript.mjs';

const [url, code] = process.argv.slice(2);

main(() =>
  withPage('MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', async (page) => {
    await page.goto(url);
    await page.fill('input[name=user_code]', code);
    await page.click('button[type=submit]');
    await page.waitForSelector('button[autofocus]');
    note('confirmation', { text: await page.textContent('body') });
    await page.click('button[autofocus]');
    await page.waitForFunction(() => document.title.includes('Success'));
    note('page', { title: await page.title() });
  }),
);
