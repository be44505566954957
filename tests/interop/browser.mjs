// The user's browser, as far as a sign-in needs one: it follows redirects and keeps cookies.

const REDIRECTS_MAX = 20;

/** Opens `start` and follows until the client's `callback` is reached; its query is the answer. */
export async function browse(start, callback, cookies = new Map()) {
  let url = new URL(start);
  for (let hops = 0; hops < REDIRECTS_MAX; hops += 1) {
    if (url.origin + url.pathname === String(callback)) return url.searchParams;
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value === '') cookies.delete(name);
      else cookies.set(name, value);
    }
    const location = response.headers.get('location');
    if (location === null) throw new Error(`the browser is stuck at ${url.pathname}: ${response.status} ${await response.text()}`);
    url = new URL(location, url);
  }
  throw new Error(`more than ${REDIRECTS_MAX} redirects from ${start}`);
}
