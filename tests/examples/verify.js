// node verify.js < webhooks.json: judges each webhook by the official library of Standard Webhooks.
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

function judged({ secret, body, headers }) {
  try {
    return new Webhook(secret).verify(body, headers).type;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return null;
    throw error;
  }
}

const webhooks = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(webhooks.map(judged)));
