// What Node's client libraries make of replies, in one process for hundreds of them.
//
//   RAVEN_URL=http://127.0.0.1:4000 RAVEN_KEY=rk_… node meanings.mjs
//
// reads cases from stdin, one JSON object a line: {client, model, stream, tools: [names]}; or
// {client, model, stream, loop: true} for a turn with a tool, called and answered. Answers each with a
// line on stdout: {answers: [{text, reasoning, refusal, calls, finish, links}], usage, error}, in which
// error is {kind, status, message} or null. The tests are in tests/conformance/test_across_node.py.
import { createInterface } from "node:readline";
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const root = process.env.RAVEN_URL;
const apiKey = process.env.RAVEN_KEY;
const openai = new OpenAI({ baseURL: `${root}/v1`, apiKey, maxRetries: 0, timeout: 15000 });
const anthropic = new Anthropic({ baseURL: root, apiKey, maxRetries: 0, timeout: 15000 });
const question = "Hello?";
const anything = { type: "object" };

const providers = {
  "ai chat": createOpenAI({ baseURL: `${root}/v1`, apiKey }).chat,
  "ai responses": createOpenAI({ baseURL: `${root}/v1`, apiKey }).responses,
  "ai messages": createAnthropic({ baseURL: `${root}/v1`, apiKey }),
  "ai compatible": createOpenAICompatible({ name: "raven", baseURL: `${root}/v1`, apiKey, includeUsage: true }),
};

const empty = () => ({ text: "", reasoning: "", refusal: "", calls: [], finish: null, links: 0 });

function parse(text) {
  if (!text?.trim()) return {};
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// -- OpenAI's own client ----------------------------------------------------------------

async function chat({ model, stream, tools }) {
  const options = { model, messages: [{ role: "user", content: question }] };
  if (tools.length)
    options.tools = tools.map((name) => ({ type: "function", function: { name, parameters: anything } }));
  if (!stream) return readChat(await openai.chat.completions.create(options), {});
  const reasoning = {};
  const asked = openai.chat.completions.stream({ ...options, stream_options: { include_usage: true } });
  asked.on("chunk", (chunk) => {
    for (const { index, delta } of chunk.choices)
      reasoning[index] = (reasoning[index] ?? "") + (delta.reasoning_content ?? delta.reasoning ?? "");
  });
  return readChat(await asked.finalChatCompletion(), reasoning);
}

function readChat(completion, reasoning) {
  const answers = completion.choices.map(({ index, message, finish_reason }) => ({
    text: message.content ?? message.audio?.transcript ?? "",
    reasoning: reasoning[index] ?? message.reasoning_content ?? message.reasoning ?? "",
    refusal: message.refusal ?? "",
    calls: (message.tool_calls ?? []).map((call) => ({
      name: call.function.name, arguments: parse(call.function.arguments), id: call.id,
    })),
    finish: finish_reason,
    links: (message.annotations ?? []).filter((one) => one.type === "url_citation").length,
  }));
  const { usage } = completion;
  return {
    answers,
    usage: usage && {
      prompt: usage.prompt_tokens,
      completion: usage.completion_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
      cache_write: usage.prompt_tokens_details?.cache_write_tokens ?? 0,
      reasoning: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
  };
}

async function responses({ model, stream, tools }) {
  const options = { model, input: question, store: false };
  if (tools.length)
    options.tools = tools.map((name) => ({ type: "function", name, parameters: anything, strict: false }));
  const response = await (stream
    ? openai.responses.stream(options).finalResponse()
    : openai.responses.create(options));
  const answer = empty();
  for (const item of response.output) {
    if (item.type === "message")
      for (const part of item.content) {
        answer.text += part.type === "output_text" ? part.text : "";
        answer.refusal += part.type === "refusal" ? part.refusal : "";
        answer.links += (part.annotations ?? []).filter((one) => one.type === "url_citation").length;
      }
    if (item.type === "reasoning")
      answer.reasoning += (item.content?.length ? item.content : item.summary).map((part) => part.text).join("");
    if (item.type === "function_call")
      answer.calls.push({ name: item.name, arguments: parse(item.arguments), id: item.call_id });
  }
  const cut = { max_output_tokens: "length" }[response.incomplete_details?.reason];
  const whole = answer.calls.length ? "tool_calls" : "stop";
  answer.finish =
    { completed: whole, incomplete: cut ?? response.incomplete_details?.reason, failed: "error" }[response.status];
  const { usage } = response;
  return {
    answers: [answer],
    usage: usage && {
      prompt: usage.input_tokens,
      completion: usage.output_tokens,
      cached: usage.input_tokens_details.cached_tokens,
      cache_write: usage.input_tokens_details.cache_write_tokens ?? 0,
      reasoning: usage.output_tokens_details.reasoning_tokens,
    },
    error: response.error && { kind: "failed", message: response.error.message },
  };
}

// -- Anthropic's own client -------------------------------------------------------------

const STOP_REASONS = {
  end_turn: "stop", stop_sequence: "stop", pause_turn: "stop", max_tokens: "length",
  model_context_window_exceeded: "length", tool_use: "tool_calls", refusal: "content_filter",
};

async function messages({ model, stream, tools }) {
  const options = { model, max_tokens: 512, messages: [{ role: "user", content: question }] };
  if (tools.length) options.tools = tools.map((name) => ({ name, input_schema: anything }));
  const message = await (stream
    ? anthropic.messages.stream(options).finalMessage()
    : anthropic.messages.create(options));
  const answer = empty();
  for (const block of message.content) {
    if (block.type === "text") {
      answer.text += block.text;
      answer.links += (block.citations ?? []).filter((one) => one.url).length;
    }
    if (block.type === "thinking") answer.reasoning += block.thinking;
    if (block.type === "tool_use")
      answer.calls.push({ name: block.name, arguments: block.input, id: block.id });
  }
  answer.finish = STOP_REASONS[message.stop_reason];
  const { usage } = message;
  const [read, written] = [usage.cache_read_input_tokens ?? 0, usage.cache_creation_input_tokens ?? 0];
  return {
    answers: [answer],
    usage: {
      prompt: usage.input_tokens + read + written,
      completion: usage.output_tokens,
      cached: read,
      cache_write: written,
      reasoning: usage.output_tokens_details?.thinking_tokens ?? 0,
    },
  };
}

// -- Vercel's AI SDK, the strictest reader of all ---------------------------------------

const AI_FINISH = { "tool-calls": "tool_calls", "content-filter": "content_filter" };

async function vercel({ client, model, stream, tools }) {
  const options = {
    model: providers[client](model),
    prompt: question,
    maxRetries: 0,
    tools: Object.fromEntries(tools.map((name) => [name, tool({ inputSchema: jsonSchema(anything) })])),
  };
  if (client === "ai responses") options.providerOptions = { openai: { store: false } };
  const result = await run(options, stream);
  const usage = result.usage;
  return {
    answers: [
      {
        text: result.text,
        reasoning: result.reasoning.map((part) => part.text).join(""),
        refusal: "",
        calls: result.toolCalls
          .filter((call) => !call.providerExecuted)
          .map((call) => ({ name: call.toolName, arguments: call.input, id: call.toolCallId })),
        finish: AI_FINISH[result.finishReason] ?? result.finishReason,
        links: result.sources.filter((source) => source.sourceType === "url").length,
      },
    ],
    usage: {
      prompt: usage.inputTokens ?? 0,
      completion: usage.outputTokens ?? 0,
      cached: usage.inputTokenDetails?.cacheReadTokens ?? 0,
      cache_write: usage.inputTokenDetails?.cacheWriteTokens ?? 0,
      reasoning: usage.outputTokenDetails?.reasoningTokens ?? 0,
    },
  };
}

async function run(options, stream) {
  if (!stream) return generateText(options);
  let failure = null;
  const result = streamText({ ...options, onError: ({ error }) => (failure ??= error) });
  for await (const part of result.fullStream) if (part.type === "error") failure ??= part.error;
  if (failure) throw failure;
  const names = ["text", "reasoning", "toolCalls", "finishReason", "sources", "usage"];
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await result[name]])));
}

// A turn in which the model calls a tool and is told its result.
async function loop({ client, model, stream }) {
  const asked = [];
  const weather = tool({
    description: "Look up the weather",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: ({ city }) => {
      asked.push(city);
      return `It rains on ${city}.`;
    },
  });
  const options = {
    model: providers[client](model),
    prompt: "What is the weather in Paris?",
    maxRetries: 0,
    stopWhen: stepCountIs(3),
    tools: { get_weather: weather },
  };
  if (client === "ai responses") options.providerOptions = { openai: { store: false } };
  const result = await run(options, stream);
  return { asked, text: result.text, finish: result.finishReason };
}

// -- the errand -------------------------------------------------------------------------

const clients = { chat, responses, messages };

function describe(error) {
  const status = error.status ?? error.statusCode ?? error.lastError?.statusCode ?? null;
  const kind = error.constructor === Error ? error.name : error.constructor.name;
  return { kind, status, message: String(error.message ?? JSON.stringify(error)) };
}

async function answer(errand) {
  try {
    if (errand.loop) return await loop(errand);
    return { error: null, ...(await (clients[errand.client] ?? vercel)(errand)) };
  } catch (error) {
    return { answers: [], usage: null, error: describe(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
