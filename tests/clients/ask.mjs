// Asks questions with Node's clients: jobs come as JSON on stdin, results go as JSON lines to stdout, as in ask.py.
//
// CLIENTS_NODE is the folder whose node_modules has the packages.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text as readAll } from 'node:stream/consumers';

const require = createRequire(`${process.env.CLIENTS_NODE}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { default: Anthropic } = await load('@anthropic-ai/sdk');
const { ChatOpenAI } = await load('@langchain/openai');
const { HumanMessage, ToolMessage } = await load('@langchain/core/messages');
const { createOpenAI } = await load('@ai-sdk/openai');
const { createAnthropic } = await load('@ai-sdk/anthropic');
const { generateText, streamText, isStepCount, tool, Output } = await load('ai');
const { z } = await load('zod');

const QUESTION = 'How does a stream gauge work?';
const MESSAGES = [{ role: 'user', content: QUESTION }];
const RESULT = '3 metres';
const SCHEMA = { type: 'object', properties: { river: { type: 'string' } }, required: ['river'], additionalProperties: false };
const RIVER = z.object({ name: z.string(), metres: z.number().int() });

const count = (outcome, input, output) => {
  outcome.input = (outcome.input ?? 0) + input;
  outcome.output = (outcome.output ?? 0) + output;
};

// The SDK of Anthropic.

const anthropicClient = ({ url, key }) => new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 30_000 });
const ask = (job, more) => ({ model: job.model, max_tokens: 99, messages: MESSAGES, ...more });

async function anthropicMessages(job, outcome) {
  const done = await anthropicClient(job).messages.create(ask(job));
  outcome.text = done.content[0].text;
  count(outcome, done.usage.input_tokens, done.usage.output_tokens);
}

async function anthropicStream(job, outcome) {
  const done = await anthropicClient(job).messages.stream(ask(job)).finalMessage();
  outcome.text = done.content[0].text;
  count(outcome, done.usage.input_tokens, done.usage.output_tokens);
}

async function anthropicTools(job, outcome) {
  const tools = [{ name: 'measure', description: 'Measures a river.', input_schema: SCHEMA }];
  const messages = [...MESSAGES];
  for (let turn = 0; turn < 2; turn += 1) {
    const done = await anthropicClient(job).messages.stream(ask(job, { messages, tools })).finalMessage();
    count(outcome, done.usage.input_tokens, done.usage.output_tokens);
    const calls = done.content.filter((block) => block.type === 'tool_use');
    outcome.calls.push(...calls.map((call) => [call.name, call.input]));
    outcome.text = done.content[0].text ?? '';
    messages.push({ role: 'assistant', content: done.content });
    messages.push({ role: 'user', content: calls.map((call) => ({ type: 'tool_result', tool_use_id: call.id, content: RESULT })) });
  }
}

// LangChain.

const langchain = ({ url, key, model }, more) =>
  new ChatOpenAI({ model, apiKey: key, maxRetries: 0, streamUsage: true, configuration: { baseURL: `${url}/v1` }, ...more });

function take(outcome, message) {
  outcome.text = message.text;
  outcome.calls.push(...(message.tool_calls ?? []).map((call) => [call.name, call.args]));
  if (message.usage_metadata) count(outcome, message.usage_metadata.input_tokens, message.usage_metadata.output_tokens);
}

async function streamed(chat, messages) {
  let whole;
  for await (const chunk of await chat.stream(messages)) whole = whole ? whole.concat(chunk) : chunk;
  return whole;
}

async function langchainTools(chat, outcome) {
  const bound = chat.bindTools([{ type: 'function', function: { name: 'measure', description: 'Measures a river.', parameters: SCHEMA } }]);
  const messages = [new HumanMessage(QUESTION)];
  for (let turn = 0; turn < 2; turn += 1) {
    const message = await streamed(bound, messages);
    take(outcome, message);
    messages.push(message);
    for (const call of message.tool_calls ?? []) messages.push(new ToolMessage({ content: RESULT, tool_call_id: call.id }));
  }
}

// The Vercel AI SDK. It runs the tools itself.

const measure = tool({ description: 'Measures a river.', inputSchema: z.object({ river: z.string() }), execute: async () => RESULT });

async function vercel(result, outcome) {
  outcome.text = await result.text;
  for (const step of await result.steps) outcome.calls.push(...step.toolCalls.map((call) => [call.toolName, call.input]));
  const usage = (await result.totalUsage) ?? (await result.usage);
  count(outcome, usage.inputTokens, usage.outputTokens);
}

const options = (model) => ({ model, prompt: QUESTION, maxRetries: 0 });
const withTools = (model) => ({ ...options(model), tools: { measure }, stopWhen: isStepCount(3) });

async function vercelStructured(model, outcome) {
  const result = await generateText({ ...options(model), output: Output.object({ schema: RIVER }) });
  await vercel(result, outcome);
  outcome.text = JSON.stringify(result.output);
}

const openai = ({ url, key }) => createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const chat = (job) => openai(job).chat(job.model);
const responses = (job) => openai(job).responses(job.model);
const messages = (job) => createAnthropic({ baseURL: `${job.url}/v1`, apiKey: job.key })(job.model);

const throwing = { onError: ({ error }) => { throw error; } };
const vercelClients = Object.entries({ 'openai chat': chat, 'openai responses': responses, anthropic: messages }).flatMap(([name, model]) => [
  [`vercel-ai ${name}`, async (job, outcome) => vercel(await generateText(options(model(job))), outcome)],
  [`vercel-ai ${name}, streamed`, (job, outcome) => vercel(streamText({ ...options(model(job)), ...throwing }), outcome)],
  [`vercel-ai ${name}, tools`, async (job, outcome) => vercel(await generateText(withTools(model(job))), outcome)],
  [`vercel-ai ${name}, tools, streamed`, (job, outcome) => vercel(streamText({ ...withTools(model(job)), ...throwing }), outcome)],
]);

const CLIENTS = {
  'anthropic-node messages': anthropicMessages,
  'anthropic-node messages.stream': anthropicStream,
  'anthropic-node messages.stream, tools': anthropicTools,
  'langchain-node openai': async (job, outcome) => take(outcome, await langchain(job).invoke(QUESTION)),
  'langchain-node openai, streamed': async (job, outcome) => take(outcome, await streamed(langchain(job), QUESTION)),
  'langchain-node openai, tools': (job, outcome) => langchainTools(langchain(job), outcome),
  'langchain-node openai responses, tools': (job, outcome) => langchainTools(langchain(job, { useResponsesApi: true }), outcome),
  'vercel-ai openai chat, structured': (job, outcome) => vercelStructured(chat(job), outcome),
  'vercel-ai openai responses, structured': (job, outcome) => vercelStructured(responses(job), outcome),
  ...Object.fromEntries(vercelClients),
};

if (process.argv[2] === '--list') {
  console.log(JSON.stringify(Object.keys(CLIENTS)));
} else {
  for (const job of JSON.parse(await readAll(process.stdin))) {
    const outcome = { text: '', calls: [], input: null, output: null };
    let raised = null;
    try {
      await CLIENTS[job.client](job, outcome);
    } catch (error) {
      raised = `${error.constructor.name}: ${error.message}`.slice(0, 300);
    }
    console.log(JSON.stringify({ ...job, ...outcome, raised }));
  }
}
