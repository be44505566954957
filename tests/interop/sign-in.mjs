// The application's part of the SDKs' OAuth client: it keeps what they give it, in memory.
import { randomUUID } from 'node:crypto';
import { browse } from './browser.mjs';
import { ensure, same } from './transcript.mjs';

// Nobody listens there: the browser stops before it opens it.
const CALLBACK = 'http://127.0.0.1:8/callback';

/** Implements `OAuthClientProvider` of both SDK versions. */
export class Application {
  redirectUrl = CALLBACK;
  clientMetadata = {
    client_name: 'Interop',
    redirect_uris: [CALLBACK],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };
  /** Where the SDK wants the user to go; taken by `consent`. */
  #authorizationUrl;
  #state;
  #verifier;
  #client;
  #tokens;
  #discovery;
  #cookies = new Map();

  /**
   * `keepScopes` adds what the current token may do to every later authorization request, for an
   * SDK that asks for the challenge's scope alone and so would lose what it had. `browse` is the user's
   * browser, if it is to be another.
   */
  constructor({ keepScopes, browse: open = browse }) {
    this.keepScopes = keepScopes;
    this.browse = open;
  }

  state() {
    this.#state = randomUUID();
    return this.#state;
  }
  clientInformation() {
    return this.#client;
  }
  saveClientInformation(client) {
    this.#client = client;
  }
  tokens() {
    return this.#tokens;
  }
  saveTokens(tokens) {
    this.#tokens = tokens;
  }
  saveCodeVerifier(verifier) {
    this.#verifier = verifier;
  }
  codeVerifier() {
    return this.#verifier;
  }
  discoveryState() {
    return this.#discovery;
  }
  saveDiscoveryState(discovery) {
    this.#discovery = discovery;
  }
  invalidateCredentials(what) {
    if (what === 'all' || what === 'tokens') this.#tokens = undefined;
    if (what === 'all' || what === 'client') this.#client = undefined;
    if (what === 'all' || what === 'discovery') this.#discovery = undefined;
  }
  redirectToAuthorization(url) {
    if (this.keepScopes && this.#tokens?.scope) {
      const scopes = new Set([...this.#tokens.scope.split(' '), ...url.searchParams.get('scope').split(' ')]);
      url.searchParams.set('scope', [...scopes].join(' '));
    }
    this.#authorizationUrl = url;
  }

  /** The scopes that the SDK is about to ask for. */
  get requestedScopes() {
    return this.#authorizationUrl?.searchParams.get('scope')?.split(' ').sort();
  }

  /** Sends the user to the authorization server; the answer is the callback's query. */
  async consent(resource) {
    const url = this.#authorizationUrl;
    this.#authorizationUrl = undefined;
    ensure(url !== undefined, 'the SDK did not ask for authorization');
    same(url.searchParams.get('code_challenge_method'), 'S256', 'code_challenge_method');
    same(url.searchParams.get('resource'), resource, 'resource in the authorization request');
    const answer = await this.browse(url, CALLBACK, this.#cookies);
    same(answer.get('error'), null, `error from the authorization server (${answer.get('error_description')})`);
    same(answer.get('state'), this.#state, 'state');
    return answer;
  }
}
