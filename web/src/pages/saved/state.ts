// The place Saved: what is looked for is in its address; what is found, and the card that is open.

import { batch, computed, effect, signal } from "@preact/signals";
import { type Kept, type List, library, me, type OwnText, type Saved, type SavedCard } from "../library.ts";
import { learnMe } from "../me.tsx";
import { dismiss, say } from "../notes.tsx";
import { isAbort, server, ServerError, wordsOf } from "../server.ts";
import { readAsked } from "../stream/address.ts";
import { model, readSession, writeSession } from "../session.ts";
import { type Trouble, troubleOf } from "../status.tsx";

export const TABS = ["directions", "lists", "texts"] as const;

export interface Sought {
  tab: (typeof TABS)[number];
  words: string;
  whose: "everybody" | "mine" | "deleted";
  site: string;
  tag: string;
  list: number | null;
  id: number | null; // of the direction whose card is open
  ask: string | null; // what that card is asked, as the page Stream has it
  at: string; // what of the card is led to: "description-7", "comment-2"
}

const START: Sought = { tab: "directions", words: "", whose: "everybody", site: "", tag: "", list: null, id: null, ask: null, at: "" };
const PAGE = 100; // the server gives ten of these at most

export const sought = signal<Sought>(START);
export const directions = signal<{ total: number; found: Saved[] } | null>(null);
export const count = signal(PAGE); // how many of them are asked for
export const lists = signal<List[]>([]);
export const deletedLists = signal<List[]>([]); // where these are looked for
export const texts = signal<OwnText[]>([]);
export const card = signal<SavedCard | null>(null);
export const trouble = signal<Trouble | null>(null);

export const mine = (owner: string): boolean => owner === me.value?.name;

let pushing = false;

export function seek(changed: Partial<Sought>): void {
  pushing = true;
  count.value = PAGE;
  sought.value = { ...sought.value, ...("id" in changed && { ask: null, at: "" }), ...changed };
}

/** Asks something of the card that is open; null closes it. */
export function askCard(ask: string | null): void {
  pushing = true;
  sought.value = { ...sought.value, ask };
}

function readAddress(): void {
  const query = new URLSearchParams(location.search);
  const number = (name: string): number | null => (/^\d{1,9}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  const oneOf = <T extends string>(name: string, options: readonly T[], usual: T): T => options.find((option) => option === query.get(name)) ?? usual;
  sought.value = {
    tab: oneOf("tab", TABS, START.tab),
    whose: oneOf("whose", ["everybody", "mine", "deleted"], START.whose),
    words: query.get("words") ?? "",
    site: query.get("in") ?? "",
    tag: query.get("tag") ?? "",
    list: number("list"),
    id: number("id"),
    ask: readAsked(query.get("ask") ?? "") ? query.get("ask") : null,
    at: /^#((?:description|comment)-\d{1,9})$/.exec(location.hash)?.[1] ?? "",
  };
}

function writeAddress(): void {
  if (!model.value) return;
  const { site, at, ...rest } = sought.value;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...rest, in: site })) if (value !== null && value !== "" && value !== START[name as keyof Sought]) query.set(name, String(value));
  const url = `${location.pathname}?${writeSession(query)}${at && `#${at}`}`;
  if (url === location.pathname + location.search + location.hash) return;
  if (pushing) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  pushing = false;
}

let seeking: AbortController | null = null;

/** Asks anew for what is looked for. */
export async function load(): Promise<void> {
  const { tab, words, whose, site, tag, list, id } = sought.peek();
  seeking?.abort();
  const controller = (seeking = new AbortController());
  try {
    const [found, allLists, goneLists, ownTexts, open] = await Promise.all([
      library.find({ words, site, tag, list, owner: whose === "mine" ? (me.peek()?.name ?? "") : null, deleted: whose === "deleted", start: 0, count: Math.min(count.peek(), 10 * PAGE) }, controller.signal),
      library.lists(),
      me.peek()?.name && tab === "lists" && whose === "deleted" ? library.lists(true) : [],
      me.peek()?.name && tab === "texts" ? library.texts(whose === "deleted") : [],
      id === null ? null : library.card(id, controller.signal),
    ]);
    if (seeking !== controller) return;
    batch(() => {
      directions.value = { total: found.total, found: found.directions };
      lists.value = allLists;
      deletedLists.value = goneLists;
      texts.value = ownTexts;
      card.value = open;
      trouble.value = null;
    });
  } catch (error) {
    if (!isAbort(error) && seeking === controller) trouble.value = troubleOf(error);
  }
}

/** Changes something that is kept, and shows what is there then; what is refused is said. */
export async function act(change: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await change();
    if (done) say(done, { seconds: 4 });
    await load();
    return true;
  } catch (error) {
    say(wordsOf(error));
    return false;
  }
}

export const more = (): void => void (count.value += PAGE);

const ONE: Record<Kept, string> = { directions: "direction", descriptions: "description", comments: "comment", lists: "list", my_texts: "text", runs: "run" };
const naming = (kind: Kept, name: string | null): string => (name ? `“${name}”` : `The ${ONE[kind]}`);

/** Deletes what is one's own, and offers to bring it back; whether it is deleted. */
export async function drop(kind: Kept, id: number, name: string | null = null): Promise<boolean> {
  const done = await act(() => library.remove(kind, id));
  if (done) say(`${naming(kind, name)} is deleted.`, { act: { text: "Bring it back", run: () => void bringBack(kind, id, name) } });
  return done;
}

/** Brings back what one deleted; where its name is taken by now, the next that may be free is offered. */
export async function bringBack(kind: Kept, id: number, name: string | null, as: string | null = null): Promise<void> {
  try {
    await library.restore(kind, id, as);
    say(`${naming(kind, as ?? name)} is back.`, { seconds: 4 });
    await load();
  } catch (error) {
    const taken = error instanceof ServerError && error.code === "name_taken" ? (as ?? name) : null;
    const [, stem, number] = /^(.*?)(?: \((\d+)\))?$/.exec(taken ?? "")!;
    const other = `${stem} (${Number(number ?? 1) + 1})`;
    say(wordsOf(error), taken ? { act: { text: `Bring it back as “${other}”`, run: () => void bringBack(kind, id, name, other) } } : {});
  }
}

/** Sends what a field says, and gives it back what is kept where that is refused. */
export const retype = (field: HTMLInputElement, kept: string, send: (text: string) => Promise<unknown>): void =>
  void act(() => send(field.value.trim())).then((done) => void (done || (field.value = kept)));

const wish = computed(() => JSON.stringify([{ ...sought.value, ask: null }, count.value, me.value?.name, model.value?.name]));

/** What the address says of the model and the theme, once the model is known. */
const checkAddress = (): void => readSession(new URLSearchParams(location.search)).forEach((problem) => say(problem));

export function start(): void {
  addEventListener("popstate", () => (dismiss(), readAddress(), checkAddress()));
  readAddress(); // before anything can be clicked, which is then not forgotten
  effect(() => {
    sought.value;
    writeAddress();
  });
  effect(() => {
    wish.value;
    if (model.peek()) void load();
  });
  void begin();
}

export async function begin(): Promise<void> {
  trouble.value = null;
  try {
    const [facts] = await Promise.all([server.model(), learnMe()]);
    batch(() => {
      model.value = facts;
      checkAddress();
    });
  } catch (error) {
    trouble.value = troubleOf(error);
  }
}
