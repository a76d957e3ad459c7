// The address of the page Stream: written as things change, read when the page opens and when one goes back.

import { batch, effect } from "@preact/signals";
import { me } from "../library.ts";
import { dismiss, say } from "../notes.tsx";
import { type ModelFacts, server, wordsOf } from "../server.ts";
import { MOST, readFragment, readQuery, type Shown, siteName, START, writeFragment, writeQuery } from "./address.ts";
import { model, readSession, theme, writeSession } from "../session.ts";
import { troubleOf } from "../status.tsx";
import { draw, openModel, own, readTexts, showPinned, takePush, trouble, wanted } from "./state.ts";

let fragment = "";
let timer = 0;
let lastPush = 0;

/** Writes the address now rather than in a moment; answers it. */
export async function writeAddress(): Promise<string> {
  clearTimeout(timer);
  fragment = await writeFragment(own.value);
  return put();
}

function put(): string {
  if (!model.peek() || !wanted.peek().kind) return location.href;
  const url = `${location.pathname}?${writeSession(writeQuery(wanted.peek()))}${fragment}`;
  if (url !== location.pathname + location.search + location.hash) {
    const now = Date.now();
    const push = takePush();
    // Steps in quick succession are one step back.
    if (push && now - lastPush > 1000) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    if (push) lastPush = now;
  }
  return location.href;
}

effect(() => {
  const { value: texts } = own;
  void writeFragment(texts).then((text) => {
    if (own.peek() !== texts) return;
    fragment = text;
    put();
  });
});
effect(() => {
  wanted.value;
  theme.value;
  clearTimeout(timer);
  timer = window.setTimeout(put, 60);
});

/** What the address says, as far as this model has it; the rest is said in notes. */
async function readAddress(facts: ModelFacts): Promise<void> {
  const usual = facts.sites.find(({ kind }) => kind === "resid_pre") ?? facts.sites[0];
  const start: Shown = { ...START, kind: usual.kind, layer: usual.n_layers === null ? null : Math.floor(usual.n_layers / 2), head: usual.n_heads && 0 };
  const query = new URLSearchParams(location.search);
  const { shown, problems } = readQuery(query, start);
  problems.push(...readSession(query));
  const site = facts.sites.find(({ kind }) => kind === shown.kind);
  const within = (n: number | null, index: number | null): boolean => (n === null ? index === null : index !== null && index < n);
  const known = site && within(site.n_layers, shown.layer) && within(site.n_heads, shown.head);
  if (!known) {
    problems.push(`${facts.name} has no site ${siteName(shown)}; ${siteName(start)} is shown instead.`);
    Object.assign(shown, { kind: start.kind, layer: start.layer, head: start.head });
  }
  let texts: string[] = [];
  try {
    texts = await readFragment(location.hash);
  } catch {
    problems.push("The texts in the link are damaged or cut off; they were left out.");
  }
  if (texts.length > MOST) problems.push(`The link has ${texts.length} texts; the first ${MOST} are shown.`);
  const { readable, refused } = await readTexts(texts.slice(0, MOST));
  problems.push(...refused.map((problem) => `A text of the link was left out. ${problem}`));
  batch(() => {
    own.value = readable;
    wanted.value = shown;
  });
  problems.forEach((problem) => say(problem));
}

/** Asks for the model and shows what the address says. */
async function begin(): Promise<void> {
  trouble.value = null;
  try {
    const facts = await server.model();
    openModel(facts);
    const linked = location.hash !== "";
    await readAddress(facts);
    if (!linked) effect(() => void (me.value?.name && showPinned().catch((error) => say(wordsOf(error)))));
  } catch (error) {
    trouble.value = troubleOf(error);
  }
}

export function retry(): void {
  if (model.value && wanted.value.kind) draw();
  else void begin();
}

/** Opens the place. */
export function start(): void {
  addEventListener("popstate", () => {
    dismiss();
    takePush();
    if (model.value) readAddress(model.value).catch((error) => (trouble.value = troubleOf(error)));
  });
  void begin();
}
