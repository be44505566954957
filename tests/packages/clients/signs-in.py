"""The user at the pages of the embedded authorization server: signs in, and allows all that is asked for.

    signs-in.py URL PASSPHRASE

Follows where the pages lead, to the client's own at the end.
"""

import http.cookiejar
import sys
import urllib.parse
import urllib.request
from html.parser import HTMLParser


class Form(HTMLParser):
    """The page's first form, as a browser would send it with the button that stands out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: list[tuple[str, str]] = []
        self.is_over = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = given["action"]
        elif self.action is None or self.is_over or "name" not in given:
            return
        # What has to be ticked, this user ticks.
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given or "required" in given):
            self.fields.append((given["name"], given.get("value", "on")))
        elif tag == "button" and given.get("class") == "primary":
            self.fields.append((given["name"], given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        self.is_over = self.is_over or (tag == "form" and self.action is not None)


def main(url: str, passphrase: str) -> None:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    body = None
    server = urllib.parse.urlsplit(url).netloc
    # A form that says not where it comes from is refused.
    opener.addheaders = [("Origin", f"http://{server}")]
    for _ in range(5):
        with opener.open(urllib.request.Request(url, body), timeout=20) as response:
            url, page = response.url, response.read().decode()
        if urllib.parse.urlsplit(url).netloc != server:
            return
        form = Form(page)
        if form.action is None:
            break
        fields = [(name, passphrase if name == "passphrase" else value) for name, value in form.fields]
        url, body = urllib.parse.urljoin(url, form.action), urllib.parse.urlencode(fields).encode()
    sys.exit(f"the pages lead nowhere, but to {url}: {page}")


if __name__ == "__main__":
    main(*sys.argv[1:])
