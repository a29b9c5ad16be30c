// Sends one request by openai-node with its own retries. Prints {"status", "code", "seconds"} of the error that it raises.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.env.CLIENTS_NODE}/`);
const { default: OpenAI } = await import(pathToFileURL(require.resolve('openai')));

const apiKey = process.env.LIMITED_KEY ?? 'unused';
const client = new OpenAI({ baseURL: `${process.env.LIMITED_URL}/v1`, apiKey, maxRetries: 2, timeout: 60_000 });
const begun = performance.now();
const request = client.chat.completions.create({ model: process.env.LIMITED_MODEL, messages: [{ role: 'user', content: 'Go.' }] });
const result = await request.then(() => ({ status: 200, code: null }), ({ status, code }) => ({ status, code }));
console.log(JSON.stringify({ ...result, seconds: Math.round((performance.now() - begun) / 10) / 100 }));
