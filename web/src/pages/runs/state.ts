// The place Runs: what was asked for at length, how far it is, and the one whose result is open.

import { batch, effect, signal } from "@preact/signals";
import { library, me, type Run } from "../library.ts";
import { learnMe } from "../me.tsx";
import { dismiss, say } from "../notes.tsx";
import { server, wordsOf } from "../server.ts";
import { model, readSession, writeSession } from "../session.ts";
import { type Trouble, troubleOf } from "../status.tsx";

const POLL_MS = 700;

export const runs = signal<Run[] | null>(null);
export const deleted = signal(false); // whether those are shown that were
export const opened = signal<number | null>(null); // the number of the run whose result is shown
export const trouble = signal<Trouble | null>(null);

export const goesOn = ({ state }: Run): boolean => state === "waiting" || state === "running";

let asking = 0;
let timer = 0;

/** Asks anew; and again soon while any of them goes on. */
export async function load(): Promise<void> {
  const number = ++asking;
  clearTimeout(timer);
  if (!me.peek()?.name) return void (runs.value = null);
  try {
    const found = await library.runs(deleted.peek());
    if (number !== asking) return;
    batch(() => {
      runs.value = found;
      trouble.value = null;
    });
    if (found.some(goesOn)) timer = window.setTimeout(() => void load(), POLL_MS);
  } catch (error) {
    if (number === asking) trouble.value = troubleOf(error);
  }
}

/** Changes a run, and shows what is there then; what is refused is said. */
export async function act(change: () => Promise<unknown>): Promise<void> {
  try {
    await change();
  } catch (error) {
    say(wordsOf(error));
  }
  await load();
}

function readAddress(): void {
  const query = new URLSearchParams(location.search);
  const id = query.get("id") ?? "";
  batch(() => {
    opened.value = /^\d{1,9}$/.test(id) ? Number(id) : null;
    deleted.value = query.get("deleted") === "1";
  });
}

export function open(id: number | null): void {
  opened.value = id;
  writeAddress(true);
}

function writeAddress(push: boolean): void {
  const query = new URLSearchParams();
  if (opened.value !== null) query.set("id", String(opened.value));
  if (deleted.value) query.set("deleted", "1");
  const url = `${location.pathname}?${writeSession(query)}`;
  if (url === location.pathname + location.search) return;
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

/** What the address says of the model and the theme, once the model is known. */
const checkAddress = (): void => readSession(new URLSearchParams(location.search)).forEach((problem) => say(problem));

export function start(): void {
  addEventListener("popstate", () => (dismiss(), readAddress(), checkAddress()));
  readAddress(); // before anything can be clicked, which is then not forgotten
  effect(() => {
    me.value?.name;
    deleted.value;
    if (!model.peek()) return;
    writeAddress(false);
    void load();
  });
  void begin();
}

export async function begin(): Promise<void> {
  trouble.value = null;
  try {
    const [facts] = await Promise.all([server.model(), learnMe()]);
    model.value = facts;
    checkAddress();
    writeAddress(false);
    await load();
  } catch (error) {
    trouble.value = troubleOf(error);
  }
}
