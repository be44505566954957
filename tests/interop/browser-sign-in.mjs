// The user's browser (Chromium) at a sign-in: opens URL, follows where it leads, and says what it
// shows in the end.
//
//   node browser-sign-in.mjs URL
import { withPage } from './chromium.mjs';
import { main, note } from './transcript.mjs';

const [url] = process.argv.slice(2);

main(() =>
  withPage('MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', async (page) => {
    const complaints = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    const requests = [];
    page.on('request', (request) => requests.push(new URL(request.url()).pathname));
    const response = await page.goto(url);
    const shown = await page.evaluate(() => ({
      title: document.title,
      heading: document.querySelector('h1')?.textContent,
      // A style that the policy forbids would leave the browser's own.
      centred: getComputedStyle(document.querySelector('main')).textAlign,
    }));
    note('page', { status: response.status(), origin: new URL(page.url()).origin, ...shown, complaints, requests });
  }),
);
