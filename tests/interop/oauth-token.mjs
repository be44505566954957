// Signs Alice in at the bridge's authorization server and prints her access token as JSON.
//
//   node oauth-token.mjs URL ISSUER "op:add op:sub"
import { auth } from '@modelcontextprotocol/client';
import { Application } from './sign-in.mjs';

const [url, issuer, scopes] = process.argv.slice(2);
const response = await fetch(`${issuer}/test/consent`, { method: 'POST', body: JSON.stringify({ scopes }) });
if (!response.ok) throw new Error(`/test/consent answered ${response.status}`);

const application = new Application({ keepScopes: false });
await auth(application, { serverUrl: url, scope: scopes });
const answer = await application.consent(url);
await auth(application, { serverUrl: url, authorizationCode: answer.get('code'), iss: answer.get('iss') });
console.log(JSON.stringify({ access_token: application.tokens().access_token }));
