// Sends requests by openai-node until stdin is closed.
//
// A line of stdout for each: {"id", "error" (null if there was none), "events" (of a stream)}. UNSTEADY_URL is the proxy's, CLIENTS_NODE
// the folder whose node_modules has the package.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.env.CLIENTS_NODE}/`);
const { default: OpenAI } = await import(pathToFileURL(require.resolve('openai')));

const MODEL = 'sim:events=4,delay=40ms..120ms,pace=5ms';
const LOOPS = 3;
// The longest silence of a response, which is longer than a member is stopped, in milliseconds.
const TIMEOUT = 60_000;

const client = new OpenAI({ baseURL: `${process.env.UNSTEADY_URL}/v1`, apiKey: 'unused', maxRetries: 0, timeout: TIMEOUT });
let ended = false;

async function complete(id, stream, result) {
  const body = { model: MODEL, messages: [{ role: 'user', content: `Request ${id}.` }], stream, user: id };
  const done = await client.chat.completions.create(body, { headers: { 'x-simulate-id': id } });
  if (!stream) {
    assert.equal(done.choices[0].finish_reason, 'stop');
    return;
  }
  let reason = null;
  for await (const chunk of done) {
    result.events += 1;
    reason = chunk.choices[0]?.finish_reason ?? reason;
  }
  assert.equal(reason, 'stop');
}

async function work(loop) {
  for (let number = 0; !ended; number += 1) {
    const result = { id: `node-${loop}-${number}`, error: null, events: 0 };
    await complete(result.id, number % 2 === 1, result).catch((error) => {
      result.error = `${error.constructor.name}: ${error.message}`.slice(0, 300);
    });
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
}

process.stdin.on('end', () => { ended = true; }).resume();
await Promise.all(Array.from({ length: LOOPS }, (_, loop) => work(loop)));
