// The openai-node checks: typical uses of the SDK, against each target.
//
// SDK_TARGETS is a JSON list of {"name", "client": "openai" | "azure", "base_url", "checks": "http" | "realtime"}; SDK_KEY is the
// key to send; SDK_NODE is the folder with node_modules. Behind every target is the simulator, or realtime.py, so that every
// text and count is known. Prints a line per check; exit status 1 if one failed.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import net from 'node:net';

const require = createRequire(`${process.env.SDK_NODE}/`);
const { default: OpenAI, AzureOpenAI } = require('openai');
const { OpenAIRealtimeWS } = require('openai/realtime/ws');
const { VERSION } = require('openai/version');

const SENTENCE =
  'A stream gauge measures a river without ever holding any of it back, ' +
  'and knows afterwards exactly how much of the water went by.';
const WORDS = 24;
const QUESTION = [{ role: 'user', content: 'How much goes by?' }];
const INPUT_TOKENS = 4;
const USAGE = { prompt_tokens: INPUT_TOKENS, completion_tokens: WORDS, total_tokens: INPUT_TOKENS + WORDS };
const API_VERSION = '2024-10-21';
const PARALLEL = 16;

const all = async (stream) => {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
};
const textOf = (chunks) => chunks.flatMap((chunk) => chunk.choices).map((choice) => choice.delta.content ?? '').join('');
const usageOf = ({ prompt_tokens, completion_tokens, total_tokens }) => ({ prompt_tokens, completion_tokens, total_tokens });
const isBeginning = (text) => assert.ok(text !== '' && SENTENCE.startsWith(text), `text before the end: ${text}`);

// The SDK opens WebSockets with TLS only (`wss:`, for any base URL): the connection is made here, without TLS.
const PLAIN = { createConnection: ({ host, port }) => net.connect({ host, port }) };

// The events of a session, one after the other. An error ends it, as does the end of the connection.
function eventsOf(session) {
  const arrived = [];
  let wake = () => {};
  let failure;
  const fail = (error) => {
    failure ??= error;
    wake();
  };
  session.on('event', (event) => {
    arrived.push(event);
    wake();
  });
  session.on('error', fail);
  session.socket.on('close', (code) => fail(new Error(`closed with ${code}`)));
  return async () => {
    while (arrived.length === 0) {
      if (failure) throw failure;
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    return arrived.shift();
  };
}

// Asks in a session, and reads to the end of the response.
async function realtimeResponse(session, next, question, number) {
  const content = [{ type: 'input_text', text: question }];
  session.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  session.send({ type: 'response.create' });
  assert.equal((await next()).type, 'response.created');
  let text = '';
  let event;
  while (['response.output_text.delta', 'response.text.delta'].includes((event = await next()).type)) text += event.delta;
  assert.equal(event.type, 'response.done');
  assert.equal(text, `${question} ${SENTENCE}`);
  const { input_tokens, output_tokens, input_token_details } = event.response.usage;
  const words = question.split(' ').length;
  assert.deepEqual([input_tokens, output_tokens], [words + 10 + number, words + WORDS + 2 * number]);
  assert.equal(input_token_details.cached_tokens, number);
}

const realtimeChecks = {
  async realtime(client) {
    const session =
      client instanceof AzureOpenAI
        ? await OpenAIRealtimeWS.azure(client, { deploymentName: 'sim-realtime', options: PLAIN })
        : new OpenAIRealtimeWS({ model: 'sim-realtime', options: PLAIN }, client);
    const next = eventsOf(session);
    const created = await next();
    assert.deepEqual([created.type, created.session.model], ['session.created', 'sim-realtime']);
    await realtimeResponse(session, next, 'How much goes by?', 1);
    await realtimeResponse(session, next, 'Is that \u2248 all of it?', 2);
    const closed = once(session.socket, 'close');
    session.close();
    assert.equal((await closed)[0], 1000);
  },
};

const httpChecks = {
  async chat(client) {
    const response = await client.chat.completions.create({ model: 'sim-chat', messages: QUESTION });
    assert.equal(response.choices[0].message.content, SENTENCE);
    assert.deepEqual(usageOf(response.usage), USAGE);
    assert.equal(response.model, 'sim-chat');
    assert.match(response._request_id, /^req_/);
  },

  async chat_stream(client) {
    const chunks = await all(client.chat.completions.create({ model: 'sim-stream', messages: QUESTION, stream: true }));
    assert.equal(textOf(chunks), SENTENCE);
    assert.ok(chunks.every((chunk) => !chunk.usage), 'usage that was not asked for');
    assert.equal(chunks.filter((chunk) => chunk.choices.length > 0).length, WORDS + 2);
  },

  async chat_stream_with_usage(client) {
    const stream_options = { include_usage: true };
    const ask = { model: 'sim-usage', messages: QUESTION, stream: true, stream_options };
    const chunks = await all(client.chat.completions.create(ask));
    assert.equal(textOf(chunks), SENTENCE);
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.deepEqual(usageOf(chunks.at(-1).usage), USAGE);
  },

  async responses(client) {
    const ask = { model: 'sim-responses', instructions: 'Be brief.', input: 'How much goes by?' };
    const response = await client.responses.create(ask);
    assert.equal(response.output_text, SENTENCE);
    assert.deepEqual([response.usage.input_tokens, response.usage.output_tokens], [6, WORDS]);
  },

  async responses_stream(client) {
    const ask = { model: 'sim-responses-stream', input: 'How much goes by?', stream: true };
    const events = await all(client.responses.create(ask));
    const deltas = events.filter((event) => event.type === 'response.output_text.delta');
    assert.equal(deltas.map((event) => event.delta).join(''), SENTENCE);
    assert.equal(events.at(-1).type, 'response.completed');
    assert.equal(events.at(-1).response.usage.total_tokens, 4 + WORDS);
  },

  async completions_stream(client) {
    const stream_options = { include_usage: true };
    const ask = { model: 'sim-legacy', prompt: 'How much?', stream: true, stream_options };
    const chunks = await all(client.completions.create(ask));
    assert.equal(chunks.flatMap((chunk) => chunk.choices).map((choice) => choice.text).join(''), SENTENCE);
    assert.equal(chunks.at(-1).usage.total_tokens, 2 + WORDS);
  },

  async embeddings(client) {
    const response = await client.embeddings.create({ model: 'sim-embeddings', input: ['one', 'two words'] });
    assert.deepEqual(response.data.map((item) => item.embedding.length), [1536, 1536]);
    assert.equal((response.data[0].embedding[0] ** 2 * 1536).toFixed(4), '1.0000');
    assert.equal(response.usage.total_tokens, 3);
  },

  async models(client) {
    const models = await all(client.models.list());
    assert.ok(models.some((model) => model.id === 'sim'));
    assert.equal((await client.models.retrieve('sim')).owned_by, 'simulator');
  },

  async missing_model(client) {
    const asked = client.models.retrieve('nothing');
    await assert.rejects(asked, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError, error);
      assert.equal(error.code, 'model_not_found');
      assert.match(error.message, /`nothing` does not exist/);
      return true;
    });
  },

  async rate_limit(client) {
    const asked = client.chat.completions.create({ model: 'sim-limit:status=429', messages: QUESTION });
    await assert.rejects(asked, (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError, error);
      assert.equal(error.headers.get('retry-after'), '1');
      return true;
    });
  },

  async error_in_stream(client) {
    const seen = [];
    const ask = { model: 'sim-error:fault=error@6', messages: QUESTION, stream: true };
    const stream = await client.chat.completions.create(ask);
    const read = async () => {
      for await (const chunk of stream) seen.push(chunk);
    };
    await assert.rejects(read(), (error) => {
      assert.ok(error instanceof OpenAI.APIError, error);
      assert.match(error.message, /The server had an error/);
      return true;
    });
    isBeginning(textOf(seen));
  },

  async cut_stream(client) {
    const seen = [];
    const stream = await client.chat.completions.create({ model: 'sim-cut:fault=cut@6', messages: QUESTION, stream: true });
    const read = async () => {
      for await (const chunk of stream) seen.push(chunk);
    };
    // The SDK passes on the exception of the platform's fetch; an error event before the end would be its own APIError.
    await assert.rejects(read(), (error) => error instanceof OpenAI.APIError || error instanceof TypeError);
    isBeginning(textOf(seen));
  },

  async cancelled_stream(client) {
    const ask = { model: 'sim-cancel:events=100000,pace=20ms', messages: QUESTION, stream: true };
    const stream = await client.chat.completions.create(ask);
    const first = [];
    for await (const chunk of stream) {
      first.push(chunk);
      if (first.length === 4) break;
    }
    isBeginning(textOf(first));
  },

  async parallel_streams(client) {
    const model = 'sim-parallel:events=50,pace=2ms,size=40';
    const stream_options = { include_usage: true };
    const ask = { model, messages: QUESTION, stream: true, stream_options };
    const streams = Array.from({ length: PARALLEL }, () => all(client.chat.completions.create(ask)));
    for (const chunks of await Promise.all(streams)) {
      assert.equal(textOf(chunks).length, 50 * 40);
      assert.equal(chunks.at(-1).usage.total_tokens, INPUT_TOKENS + 50);
    }
  },
};

function clientOf({ client, base_url }) {
  // A retry would hide a failure.
  const common = { apiKey: process.env.SDK_KEY, maxRetries: 0, timeout: 30_000 };
  return client === 'azure'
    ? new AzureOpenAI({ endpoint: base_url, apiVersion: API_VERSION, ...common })
    : new OpenAI({ baseURL: base_url, ...common });
}

for (const target of JSON.parse(process.env.SDK_TARGETS)) {
  const client = clientOf(target);
  for (const [check, run] of Object.entries(target.checks === 'realtime' ? realtimeChecks : httpChecks)) {
    const name = `openai-node ${VERSION}: ${target.name}: ${check}`;
    try {
      await run(client);
      console.log(`ok ${name}`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`FAILED ${name}\n${error.stack}`);
    }
  }
}
