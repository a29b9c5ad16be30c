//! The part of `simulate --help` about requests.

/// The language of directions, for `simulate --help`.
pub const HELP: &str = "\
DIRECTIONS
  Each request may direct its response: in the header x-simulate, or, if only a model can be set, after a colon in the
  model's name (or the deployment's). The header overrides the name.

      x-simulate: events=100,pace=10ms,fault=cut@50
      \"model\": \"sim:events=100,pace=10ms\"

  events=N      events of text, also the number of output tokens [default: 24]
  size=BYTES    bytes of text in each event [default: one word]
  pace=TIME     from one event of any kind to the next, counted from the first, so that it does not drift
                [default: 0, as fast as the socket accepts them]; times are 500us, 10ms, 2s
  delay=TIME    before the response headers; delay=5ms..50ms: a time between the two, another one for each request
  chunk=BYTES   bytes of each piece of a stream, regardless of where events end [default: event, a piece for each]
  stamp=1       adds a member \"stamp\" to each event: its time in nanoseconds since 1970
  usage=WHERE   asked (as the service does: the last chunk, if stream_options.include_usage), always (the last chunk),
                finish (in the chunk with the finish reason), every (all chunks, cumulative), none [default: asked]
  cached=N, reasoning=N   counts in the usage's details; reasoning tokens are output tokens besides the text's
  finish=REASON stop, length (responses: response.incomplete), content_filter [default: stop]
  tool=NAME     the tool to call, among those in the request; none: no tool is called
  calls=N       calls of it in one response [default: 1]
  status=CODE   the status of an error response, in the service's form; 429 has the time at which the limit ends
  limit=STYLE   its form: openai (retry-after, retry-after-ms and x-ratelimit-*), seconds or date (retry-after),
                millis (retry-after-ms), reset (x-ratelimit-reset-tokens), anthropic (anthropic-ratelimit-tokens-reset),
                google (retryDelay in the body), none [default: openai]
  after=TIME    from the response to the end of the limit [default: 1s]
  utilization=PERCENT   azure-openai-deployment-utilization, as provisioned deployments of Azure send it
  reject=CODE   the status of an error response to requests with stream_options
  fault=WHAT    silence (nothing more is ever sent), cut (the connection is closed), reset (it is reset; unsent bytes may
                be lost), garbage (bytes that are not HTTP, then closed), error (an error event; unstreamed: a 200 with
                an error in it). Without a place it comes before the response headers, an error as the first event;
                WHAT@N after N events on the wire, counting every kind of event; WHAT@N+B after B bytes of the next one.
                In an unstreamed response N counts bytes of the body

  Input tokens are the words (between blanks) of all texts in messages, system, prompt, input and instructions; a number
  there is a token. A request without directions gets 24 events of one word each, at once.

  A request with tools gets a call, and text once a tool's result follows the model's last output. The tool is that of
  tool_choice or tool=, otherwise the first with a required member `command` or `cmd`, whose value is a harmless echo,
  otherwise the first. Arguments, and responses to a json_schema, are an instance of the schema with its required
  members, in pieces of `size` bytes [default: 8]; each piece is an event and an output token.

ACCOUNTS
  With --account NAME all ids are the account's own, and it refuses those of another account as OpenAI does: a
  previous_response_id (400, previous_response_not_found), encrypted_content (400, invalid_encrypted_content), item
  references, reasoning items, conversations and files (404). A request to /v1/responses whose include has
  reasoning.encrypted_content then gets an item of it. Two simulators with two names test what keeps conversations at
  the upstream that stores them.

PATHS
  /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/moderations, /v1/models, /v1/models/{id}
  /v1/responses, /v1/responses/input_tokens, and for stored responses GET and DELETE /v1/responses/{id}, .../cancel and
  .../input_items; with \"background\": true a response is queued, in_progress for as long as its events take at their
  pace, then completed. A WebSocket at GET /v1/responses takes response.create.
  /v1/audio/speech (mp3, wav, pcm: silence), /v1/audio/transcriptions, /v1/audio/translations, /v1/images/generations,
  /v1/images/edits, /v1/files, /v1/files/{id}, /v1/files/{id}/content; files stay in memory, the oldest is dropped first
  /v1/conversations, /v1/conversations/{id} (GET, POST, DELETE), .../items, .../items/{id}: a response whose request names
  a conversation adds its turn
  /v1/realtime as a WebSocket, with text
  The same in Azure's form, under /openai/v1/ and, with an api-version, /openai/deployments/{name}/ and /openai/.
  Anthropic's /v1/messages and /v1/messages/count_tokens, also under /anthropic/v1/.
  .../simulator/echo returns the request: method, path, query, headers, body. /simulator/tally counts requests
  and reported tokens. /simulator/executions counts the executions of each request with a header x-simulate-id;
  with --executions FILE, each id is also a line of that file, which outlives the process.
  /simulator/running is the number of requests that run, and the largest one so far.
";
