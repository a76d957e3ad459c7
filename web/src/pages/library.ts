// What people keep on the server, as docs/reference/http.md states it, and who they are.

import { signal } from "@preact/signals";
import { call, json, type Made, type Progress, type Term } from "./server.ts";
import { model } from "./session.ts";

export interface Me {
  name: string | null;
  sign_in: boolean; // whether a password is wanted
  public_read: boolean;
}

export interface Description {
  id: number;
  text: string;
  author: string;
  origin: string | null;
  score: number;
  my_vote: 1 | -1 | 0;
}

export interface Saved {
  id: number;
  name: string;
  owner: string;
  origin: string | null;
  site: string;
  width: number;
  tags: string[];
  description: Description | null; // the best voted
  revision: number;
  created: string;
  changed: string;
  deleted: string | null;
}

export interface SavedCard {
  direction: Saved;
  descriptions: Description[];
  comments: { id: number; text: string; author: string; origin: string | null; created: string }[];
  revisions: { number: number; name: string; created: string }[];
  lists: number[];
}

export interface List {
  id: number;
  name: string;
  owner: string;
  directions: number[];
  deleted: string | null;
}

export interface OwnText {
  id: number;
  name: string | null;
  text: string;
  pinned: boolean;
  deleted: string | null;
}

/** What is deleted by its number, and brought back. */
export type Kept = "directions" | "descriptions" | "comments" | "lists" | "my_texts" | "runs";

/** An analysis that was asked for, and what came of it. */
export interface Run {
  id: number;
  kind: string;
  settings: Record<string, unknown>;
  state: "waiting" | "running" | "done" | "failed" | "cancelled" | "interrupted";
  log: [time: string, what: string][];
  progress: Progress | null;
  created: string;
  changed: string;
  deleted: string | null;
}

export const me = signal<Me | null>(null);

/** A saved direction as it is now, as requests write it. */
export const keptOf = ({ id, revision }: Pick<Saved, "id" | "revision">): Made => ({ kind: "saved", id, revision });

/** Whether the page Stream can show it: where a site has heads, it shows one. */
export const isShown = ({ site }: Saved): boolean => site.includes(":") || !model.value?.sites.some(({ kind, n_heads }) => n_heads !== null && kind === site.split(".")[0]);

const query = (asked: Record<string, string | number | boolean | string[] | null | undefined>): string => {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) if (value !== null && value !== undefined && value !== "") for (const one of Array.isArray(value) ? value : [value]) found.append(name, String(one));
  return `?${found}`;
};

export const library = {
  me: () => json<Me>("me"),
  enter: (name: string, password: string | null) => json<Me>("me", { body: { name, password } }),
  leave: () => json<Me>("me", { method: "DELETE" }),

  find: (asked: { words: string; owner: string | null; site: string; tag: string; list?: number | null; deleted: boolean; start: number; count: number }, signal?: AbortSignal) =>
    json<{ total: number; directions: Saved[] }>(`directions${query(asked)}`, { signal }),
  card: (id: number, signal?: AbortSignal) => json<SavedCard>(`directions/${id}`, { signal }),
  nearest: (id: number, signal?: AbortSignal) => json<{ direction: Saved; cosine: number }[]>(`directions/${id}/nearest`, { signal }),
  save: (asked: { site: string; along: readonly Term[]; name: string; description: string; tags: string[] }) => json<Saved>("directions", { body: asked }),
  upload: (file: File, asked: { site: string; name: string }) => json<Saved>(`directions/file${query({ ...asked, file: file.name })}`, { bytes: file }),
  revise: (id: number, asked: { site: string; along: readonly Term[] }) => json<Saved>(`directions/${id}`, { method: "PUT", body: asked }),
  change: (id: number, asked: { name?: string; tags?: string[] }) => json<Saved>(`directions/${id}`, { method: "PATCH", body: asked }),
  file: async (id: number): Promise<Blob> => (await call(`directions/${id}/file`)).blob(),

  describe: (id: number, text: string) => json<Description>(`directions/${id}/descriptions`, { body: { text } }),
  reword: (id: number, text: string) => json<Description>(`descriptions/${id}`, { method: "PATCH", body: { text } }),
  vote: (id: number, value: 1 | -1 | 0) => json<Description>(`descriptions/${id}/vote`, { method: "PUT", body: { value } }),
  comment: (id: number, text: string) => json<unknown>(`directions/${id}/comments`, { body: { text } }),

  lists: (deleted = false) => json<List[]>(`lists${query({ deleted })}`),
  addList: (name: string, directions: number[]) => json<List>("lists", { body: { name, directions } }),
  changeList: (id: number, asked: { name?: string; directions?: number[] }) => json<List>(`lists/${id}`, { method: "PATCH", body: asked }),

  texts: (deleted = false) => json<OwnText[]>(`my_texts${query({ deleted })}`),
  addTexts: (texts: { name: string | null; text: string }[]) => json<OwnText[]>("my_texts", { body: { texts } }),
  changeText: (id: number, asked: { name?: string | null; pinned?: boolean }) => json<OwnText>(`my_texts/${id}`, { method: "PATCH", body: asked }),

  runs: (deleted: boolean) => json<Run[]>(`runs${query({ deleted })}`),
  startRun: (kind: string, settings: Readonly<Record<string, unknown>>) => json<Run>("runs", { body: { kind, settings } }),
  stopRun: (id: number) => call(`runs/${id}/stop`, { method: "POST" }),
  runResult: async (id: number): Promise<Uint8Array<ArrayBuffer>> => new Uint8Array(await (await call(`runs/${id}/result`)).arrayBuffer()),

  remove: (kind: Kept, id: number) => call(kind === "my_texts" ? `${kind}${query({ ids: id })}` : `${kind}/${id}`, { method: "DELETE" }),
  /** Under another name, where one is given. */
  restore: (kind: Kept, id: number, name: string | null = null) =>
    call(kind === "my_texts" ? `${kind}/restore${query({ ids: id, name })}` : `${kind}/${id}/restore${query({ name })}`, { method: "POST" }),

  export: async (): Promise<Blob> => (await call("library")).blob(),
  import: (file: File) => json<{ n_directions: number; n_lists: number; n_texts: number; n_votes_left: number }>("library", { bytes: file }),
};
