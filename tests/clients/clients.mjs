// Reads streams with Node's SDKs: jobs come as JSON on stdin, results go as JSON lines to stdout.
//
// A job is {"client", "url", "cut"}; a result adds "raised" (the error's class, or null if the stream ended without one) and
// "text" (the application's text before that). CLIENTS_NODE is the folder whose node_modules has the packages.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text as readAll } from 'node:stream/consumers';

const require = createRequire(`${process.env.CLIENTS_NODE}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load('openai');
const { default: Anthropic } = await load('@anthropic-ai/sdk');
const { ChatOpenAI } = await load('@langchain/openai');
const { createOpenAI } = await load('@ai-sdk/openai');
const { createAnthropic } = await load('@ai-sdk/anthropic');
const { streamText } = await load('ai');

const QUESTION = [{ role: 'user', content: 'How much goes by?' }];
const MODEL = 'recorded';

const openaiClient = ({ url, cut }) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0, defaultHeaders: { 'x-cut': cut } });
const anthropicClient = ({ url, cut }) =>
  new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0, defaultHeaders: { 'x-cut': cut } });

async function* openaiChat(job) {
  const stream = await openaiClient(job).chat.completions.create({ model: MODEL, messages: QUESTION, stream: true });
  for await (const chunk of stream) yield chunk.choices[0]?.delta.content ?? '';
}

async function* openaiResponses(job) {
  const stream = await openaiClient(job).responses.create({ model: MODEL, input: 'How much goes by?', stream: true });
  for await (const event of stream) {
    if (event.type === 'response.failed') throw new Error('response.failed');
    if (event.type === 'response.output_text.delta') yield event.delta;
  }
}

async function* anthropicMessages(job) {
  const stream = await anthropicClient(job).messages.create({ model: MODEL, max_tokens: 99, messages: QUESTION, stream: true });
  for await (const event of stream) yield event.delta?.text ?? '';
}

async function* anthropicHelper(job) {
  const stream = anthropicClient(job).messages.stream({ model: MODEL, max_tokens: 99, messages: QUESTION });
  for await (const event of stream) yield event.delta?.text ?? '';
  await stream.finalMessage();
}

async function* langchainOpenai({ url, cut }) {
  const configuration = { baseURL: `${url}/v1`, defaultHeaders: { 'x-cut': cut } };
  const chat = new ChatOpenAI({ model: MODEL, apiKey: 'unused', maxRetries: 0, configuration });
  for await (const chunk of await chat.stream('How much goes by?')) yield chunk.text;
}

// The Vercel AI SDK reports errors as parts of the stream; `text` rejects or is shorter.
async function* vercel(model) {
  const result = streamText({ model, prompt: 'How much goes by?', maxRetries: 0, onError: () => {} });
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error instanceof Error ? part.error : new Error(String(part.error));
    if (part.type === 'text-delta') yield part.text;
  }
}

const vercelOpenai = ({ url, cut }) => createOpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', headers: { 'x-cut': cut } });
const vercelAnthropic = ({ url, cut }) => createAnthropic({ baseURL: `${url}/v1`, apiKey: 'unused', headers: { 'x-cut': cut } });

const CLIENTS = {
  'openai-node chat': openaiChat,
  'openai-node responses': openaiResponses,
  'anthropic-node messages': anthropicMessages,
  'anthropic-node messages.stream': anthropicHelper,
  'langchain-node openai': langchainOpenai,
  'vercel-ai openai chat': (job) => vercel(vercelOpenai(job).chat(MODEL)),
  'vercel-ai openai responses': (job) => vercel(vercelOpenai(job).responses(MODEL)),
  'vercel-ai anthropic': (job) => vercel(vercelAnthropic(job)(MODEL)),
};

for (const job of JSON.parse(await readAll(process.stdin))) {
  let [text, raised] = ['', null];
  try {
    for await (const piece of CLIENTS[job.client](job)) text += piece;
  } catch (error) {
    raised = error.constructor.name;
  }
  console.log(JSON.stringify({ ...job, raised, text }));
}
