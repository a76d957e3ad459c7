// The HTTP interface of the server, as docs/reference/http.md states it.

import { signal } from "@preact/signals";
import { type Arrays, parseArrays } from "../arrays.ts";

export interface SiteKind {
  kind: string;
  n_layers: number | null;
  n_heads: number | null; // of each layer; null where a position has one vector
  meaning: string;
}

export interface ModelFacts {
  name: string;
  family: string;
  n_layers: number;
  d_model: number;
  n_heads: number;
  n_ctx: number;
  n_parameters: number;
  dtype: string;
  device: string;
  prepends_bos: boolean;
  names: string[]; // two of people, each one token; fewer where the model has none
  n_texts: number;
  sites: SiteKind[];
  dictionaries: Record<string, number>; // features of each, by its site
  misfits: Record<string, string>; // what does not fit of them, in a sentence each
}

export interface Tokens {
  pieces: string[];
  special: boolean[];
}

export interface Pca {
  site: string;
  n_texts: number;
  n_tokens: number;
  n_cut: number;
  left_out: number[];
  shares: number[];
  deviations: number[];
  offsets: number[];
  warning: string | null;
}

/** How a direction is made, as docs/reference/http.md writes it; `here`: it is meant at the site shown, though it lives elsewhere. */
export interface Made {
  kind: string;
  here?: boolean;
  [fact: string]: unknown;
}

/** So much of a direction. */
export interface Term {
  weight: number;
  of: Made;
}

export interface DirectionFacts {
  name: string;
  deviation: number | null;
  offset: number;
  left_out: number[];
  history: Record<string, unknown>;
  cosines: number[]; // to every component of the site
}

/** A component or feature that was found. */
export interface Match {
  kind: "pca" | "feature";
  number: number;
  value: number;
  pos: number | null;
}

/** A saved direction that was found. */
export interface SavedMatch {
  id: number;
  revision: number;
  name: string;
  owner: string;
  site: string;
  value: number;
  pos?: number | null;
}

export interface Found {
  found: Match[];
  saved: SavedMatch[];
  through?: string; // of a token: the matrices between here and the last stream
}

export interface Progress {
  done: number;
  total: number;
  what: string;
}

/** What the server says is wrong, in its words; `status` 0: it could not be reached. */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

/** Seconds until a request that a full queue turned away is made again; null while none waits. */
export const queued = signal<number | null>(null);

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** An error in its words, for a person. */
export const wordsOf = (error: unknown): string => (error instanceof ServerError ? `${error.message} ${error.hint}`.trim() : error instanceof Error ? error.message : String(error));

/** Whether the same request may fare better: the server was away, busy or at fault, or who asks has to sign in first. What is wrong with the request stays so. */
export const mayPass = (error: unknown): boolean => !(error instanceof ServerError) || [0, 401, 429].includes(error.status) || error.status >= 500;

function errorOf(status: number, body: unknown): ServerError {
  const { code = "error", message = `The server answered ${status}.`, hint = "" } = (body as { error?: Partial<ServerError> })?.error ?? {};
  return new ServerError(status, code, message, hint);
}

interface Call {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown; // as JSON
  bytes?: Blob; // as they are
  signal?: AbortSignal;
  accept?: string;
}

export async function call(path: string, { method, body, bytes, signal, accept }: Call = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const content = bytes ?? (body === undefined ? undefined : JSON.stringify(body));
  if (accept) headers.Accept = accept;
  for (;;) {
    let response: Response;
    try {
      response = await fetch(`/api/v1/${path}`, { method: method ?? (content === undefined ? "GET" : "POST"), headers, signal, body: content });
    } catch {
      if (signal?.aborted) throw signal.reason;
      throw new ServerError(0, "unreachable", "The server does not answer.", 'See whether "residscope serve" still runs in its terminal.');
    }
    if (response.ok) return response;
    if (response.status !== 429) throw errorOf(response.status, await response.json().catch(() => null));
    const seconds = Math.max(1, Number(response.headers.get("Retry-After")) || 1);
    queued.value = seconds;
    try {
      await sleep(seconds * 1000, signal);
    } finally {
      queued.value = null;
    }
  }
}

export const json = async <T>(path: string, options?: Call): Promise<T> => (await call(path, options)).json();
const arrays = async <P>(path: string, options: Call): Promise<Arrays<P>> => parseArrays<P>(await (await call(path, options)).arrayBuffer());

/** The events of a `text/event-stream`, one after the other. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<{ event: string; data: string }> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of body) {
    text = (text + decoder.decode(chunk, { stream: true })).replaceAll("\r\n", "\n");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name: string): string[] => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, ""));
      const data = field("data").join("\n");
      if (data) yield { event: field("event")[0] ?? "message", data };
    }
  }
}

async function* chunks(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The result of a call that tells how far it is. */
async function follow<T>(path: string, onProgress: (progress: Progress & Partial<T>) => void, options: Call): Promise<T> {
  const { signal } = options;
  const response = await call(path, { ...options, accept: "text/event-stream" });
  try {
    for await (const { event, data } of readEvents(chunks(response.body!))) {
      const message = JSON.parse(data);
      if (event === "progress") onProgress(message);
      else if (event === "result") return message;
      else if (event === "error") throw errorOf(message.status, message);
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (error instanceof TypeError) throw new ServerError(0, "unreachable", "The server went away while it computed.", 'See whether "residscope serve" still runs in its terminal.');
    throw error;
  }
  throw new ServerError(0, "cut_off", `The answer of ${path} ended before its result.`, "Try again; the server's terminal may say more.");
}

export const server = {
  model: (signal?: AbortSignal) => json<ModelFacts>("model", { signal }),
  dictionaries: () => json<Record<string, string>>("dictionaries"), // the fingerprint of each, by its site
  texts: (start: number, count: number, signal?: AbortSignal) => json<{ total: number; start: number; texts: string[] }>(`texts?start=${start}&count=${count}`, { signal }),
  chosenTexts: (numbers: readonly number[], signal?: AbortSignal) => json<{ total: number; texts: string[] }>(`texts?${numbers.map((number) => `only=${number}`).join("&")}`, { signal }),
  order: (site: string, along: readonly Term[], signal?: AbortSignal) => json<{ order: number[] }>("order", { body: { site, along }, signal }),
  tokens: (texts: string[], signal?: AbortSignal) => json<{ texts: Tokens[] }>("tokens", { body: { texts }, signal }),

  pca: (site: string, onProgress: (progress: Progress) => void, signal?: AbortSignal) => follow<Pca>(`pca/${encodeURIComponent(site)}`, onProgress, { signal }),

  /** The bytes of a result; `soFar` are those of what is known of it, where that can be said. */
  async analysis(path: string, body: unknown, onProgress: (progress: Progress, soFar: Uint8Array<ArrayBuffer> | null) => void, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { data } = await follow<{ data: string }>(path, ({ data, ...progress }) => onProgress(progress, data === undefined ? null : bytesOf(data)), { body, signal });
    return bytesOf(data);
  },
  analysisHtml: async (path: string, body: unknown): Promise<Blob> => (await call(path, { body, accept: "text/html" })).blob(),

  /** values [component batch pos], in units of the stream. */
  projection: (texts: string[], site: string, components: [number, number], signal?: AbortSignal) =>
    arrays("projection", { body: { texts, site, components }, signal }),
  /** Where a direction lives, and its name. */
  home: (site: string, direction: Made) => json<{ name: string; site: string }>("home", { body: { site, direction } }),
  describe: (site: string, directions: readonly Made[], signal?: AbortSignal) => json<{ directions: DirectionFacts[] }>("describe", { body: { site, directions }, signal }),
  /** values [direction batch pos], in units of the stream. */
  values: (texts: string[], site: string, directions: readonly Made[], signal?: AbortSignal) => arrays("values", { body: { texts, site, directions }, signal }),
  /** values [direction pos]: what the mean of each position has along each, less its offset. */
  byPosition: async (site: string, directions: readonly Made[], onProgress: (progress: Progress) => void, signal?: AbortSignal) =>
    parseArrays(await server.analysis("by_position", { site, directions }, onProgress, signal)),
  active: (text: string, site: string, pos: number | null, top: number, signal?: AbortSignal) => json<Found>("active", { body: { text, site, pos, top }, signal }),
  nearest: (site: string, along: readonly Term[], top: number, signal?: AbortSignal) => json<Found>("nearest", { body: { site, along, top }, signal }),
  promoting: (site: string, token: string, top: number, signal?: AbortSignal) => json<Found>("promoting", { body: { site, token, top }, signal }),
  /** values [layer pos] */
  river: (text: string, site: string, along: readonly Term[], signal?: AbortSignal) => arrays<{ rows: string[] }>("river", { body: { text, site, along }, signal }),
  export: (format: "html" | "csv" | "python", asked: { texts: string[]; panels: { site: string; along: readonly Term[] }[]; free: boolean; centre: string }) => call(`export/${format}`, { body: asked }),
};
