// The official OpenAI client for Node, whose baseURL alone was changed.
//
//   RAVEN_URL=http://127.0.0.1:4000/v1 RAVEN_KEY=rk_… node openai.mjs SCENARIO
//
// prints what the client saw as one JSON document; an error that the client raised is
// {"error": {"kind", "status", "code", "param", "message"}}. The tests are in
// tests/conformance/test_clients_node.py.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({
  baseURL: process.env.RAVEN_URL,
  apiKey: process.env.RAVEN_KEY,
  maxRetries: 0,
  timeout: Number(process.env.RAVEN_TIMEOUT_MS ?? 10000),
});
const model = process.env.RAVEN_MODEL ?? "mock-small";
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const scenarios = {
  async chat() {
    const { data, response, request_id } = await client.chat.completions
      .create({ model, messages })
      .withResponse();
    return { answer: data, headers: Object.fromEntries(response.headers), request_id };
  },

  async stream() {
    const options = { model, messages, stream: true };
    const plain = await collect(await client.chat.completions.create(options));
    const asking = { ...options, stream_options: { include_usage: true } };
    return { plain, asking: await collect(await client.chat.completions.create(asking)) };
  },

  // The client's own accumulator: the strictest reader of chunks that it has.
  async accumulate() {
    const stream = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    const text = [];
    stream.on("content", (delta) => text.push(delta));
    return { final: await stream.finalChatCompletion(), text: text.join("") };
  },

  async tools() {
    const calls = [];
    const runner = client.chat.completions.runTools({
      model,
      messages,
      tools: [
        {
          type: "function",
          function: {
            ...weather.function,
            parse: JSON.parse,
            function: ({ city }) => {
              calls.push(city);
              return `It rains on ${city}.`;
            },
          },
        },
      ],
    });
    return { content: await runner.finalContent(), calls };
  },

  async streamed_tools() {
    const stream = client.chat.completions.stream({ model, messages, tools: [weather] });
    return { final: await stream.finalChatCompletion() };
  },

  async structured() {
    const Report = z.object({ city: z.string(), degrees: z.number(), tags: z.array(z.string()) });
    const answer = await client.chat.completions.parse({
      model,
      messages,
      response_format: zodResponseFormat(Report, "report"),
    });
    return { parsed: answer.choices[0].message.parsed };
  },

  async embeddings() {
    const input = ["one", "two"];
    const packed = await client.embeddings.create({ model: "mock-embedding", input, dimensions: 4 });
    const floats = await client.embeddings.create({
      model: "mock-embedding", input, dimensions: 4, encoding_format: "float",
    });
    return { packed: packed.data, floats: floats.data, usage: packed.usage };
  },

  async completions() {
    const options = { model, prompt: "Once upon a time" };
    const whole = await client.completions.create(options);
    const chunks = await collect(await client.completions.create({ ...options, stream: true }));
    return { whole: whole.choices[0].text, streamed: chunks.map((c) => c.choices[0]?.text ?? "").join("") };
  },

  async models() {
    const listed = [];
    for await (const one of client.models.list()) listed.push(one.id);
    return { listed, one: await client.models.retrieve("mock-large") };
  },

  async leave() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of stream) break;
    return { left: true };
  },

  async unknown_path() {
    return { answer: await client.fineTuning.jobs.list() };
  },

  async malformed() {
    return { answer: await client.chat.completions.create({ model, messages: [] }) };
  },
};

function describe(error) {
  const { status, code, param, message } = error;
  const kinds = [OpenAI.APIConnectionTimeoutError, OpenAI.APIConnectionError, OpenAI.APIError];
  const kind = error.constructor === Error ? "Error" : error.constructor.name;
  return { kind, status, code, param, message, isApiError: kinds.some((k) => error instanceof k) };
}

let result;
try {
  result = await scenarios[process.argv[2]]();
} catch (error) {
  if (!(error instanceof OpenAI.OpenAIError)) throw error;
  result = { error: describe(error) };
}
console.log(JSON.stringify(result));
