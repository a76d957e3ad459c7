// The state of the page Stream: what is wanted (the address says it), what is shown, and the way from one to the other.

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import { colourLimit, type Payload, type Picked, shownValues } from "../../views/reading.ts";
import { library } from "../library.ts";
import { isSomebody } from "../me.tsx";
import { say } from "../notes.tsx";
import { type DirectionFacts, isAbort, type Made, type ModelFacts, type Pca, type Progress, server, ServerError, type SiteKind, type Term, wordsOf } from "../server.ts";
import { model } from "../session.ts";
import { type Trouble, troubleOf, type Work } from "../status.tsx";
import { component as componentNumber, componentOf, MOST, type Place, readSite, type Row, rowOf, type Shown, siteName, START } from "./address.ts";
import { align, type Match } from "./align.ts";
import { BLOCK, Store } from "./store.ts";
import { drawOrder } from "../../numbers.ts";
import { addUp, sounding, type Sum, sumOf } from "./sum.ts";

export interface ShownText {
  key: string; // "own.0" or "12", as in the address
  text: string;
  label: string;
  own: boolean;
  pieces: string[];
  special: boolean[];
  values: Float32Array; // raw, in units of the stream
  others: Float32Array[]; // of each other panel of the picture
  problem?: string; // why it is not coloured, in the server's words
}

/** A direction at a site, and what follows from it there. */
export interface Panel {
  site: string;
  rows: readonly Row[]; // that sound
  facts: readonly DirectionFacts[]; // of each of these
  sum: Sum;
  factor: number; // what values on the sum's direction are multiplied by: 1, or its length
  name: string;
  pca: Pca;
  byPosition: Float32Array | null; // where it is centred so: what each position's mean has along the sum, less its offset
}

export interface Picture extends Panel {
  component: number | null; // where it is one of the site's and nothing else
  others: readonly Panel[]; // every layer, or what is shown beside it
  texts: ShownText[];
}

export const wanted = signal<Shown>(START);
export const own = signal<readonly string[]>([]);
export const picture = signal<Picture | null>(null);
export const work = signal<Work | null>(null);
export const trouble = signal<Trouble | null>(null);
export const total = signal<number | null>(null); // sample texts the server has

let store = new Store(Infinity);

export function openModel(facts: ModelFacts): void {
  store = new Store(facts.n_ctx);
  model.value = facts;
}

/** Which of the texts this model can read, and the server's words on the others. */
export async function readTexts(texts: readonly string[]): Promise<{ readable: string[]; refused: string[] }> {
  await store.loadTokens(texts);
  const readable: string[] = [];
  const refused: string[] = [];
  for (const text of new Set(texts)) {
    const tokens = store.tokens(text)!;
    if ("problem" in tokens) refused.push(tokens.problem);
    else readable.push(text);
  }
  return { readable, refused };
}

// What is wanted -------------------------------------------------------------------------------------------------

let push = false;

/** Changes what is wanted; `{ push: true }` where Back should lead back. What was asked of one direction is not asked of the next. */
export function change(patch: Partial<Shown>, options: { push?: boolean } = {}): void {
  push ||= options.push ?? false;
  const another = "rows" in patch || "kind" in patch || "layer" in patch || "head" in patch;
  wanted.value = { ...wanted.value, ...(another && { ask: null }), ...patch };
}

/** Whether a change since the last call is one that Back should undo. */
export function takePush(): boolean {
  const taken = push;
  push = false;
  return taken;
}

export const kinds = computed(() => model.value?.sites ?? []);
const kindOf = (name: string): SiteKind | undefined => kinds.value.find(({ kind }) => kind === name);
export const layers = computed(() => kindOf(wanted.value.kind)?.n_layers ?? null);
export const heads = computed(() => kindOf(wanted.value.kind)?.n_heads ?? null);

/** The place of a kind that is nearest to what is shown. */
export function nearest(kind: string, { layer, head }: Omit<Place, "kind">): Place {
  const { n_layers, n_heads } = kindOf(kind)!;
  const within = (n: number | null, wish: number): number | null => (n === null ? null : Math.min(wish, n - 1));
  return { kind, layer: within(n_layers, layer ?? Math.floor((n_layers ?? 0) / 2)), head: within(n_heads, head ?? 0) };
}
export const nComponents = computed(() => pcaOf(wanted.value)?.shares.length ?? model.value?.d_model ?? 1);

function pcaOf(shown: Shown): Pca | undefined {
  return store.pca(siteName(shown)) ?? (picture.value?.site === siteName(shown) ? picture.value.pca : undefined);
}

export function chooseKind(kind: string): void {
  change(nearest(kind, wanted.value), { push: true });
}

export const chooseHead = (head: number): void => change({ head }, { push: true });

export function chooseLayer(layer: number): void {
  const n = layers.value;
  if (n !== null && layer >= 0 && layer < n && layer !== wanted.value.layer) change({ layer }, { push: true });
}

export function chooseComponent(component: number): void {
  if (component >= 0 && component < nComponents.value && component !== componentOf(wanted.value)) change({ rows: [rowOf(componentNumber(component))], free: false }, { push: true });
}

/** What is shown, as requests write it. */
export const alongOf = ({ rows }: Pick<Picture, "rows">): Term[] => rows.map(({ weight, of }) => ({ weight, of }));

/** A direction that lives elsewhere, and whether to go there or to read it here is to be said. */
export interface Question {
  of: Made;
  name: string;
  home: string;
  how: How;
  row?: number; // of a link that does not say it
}

/** Alone, as one more of the sum, or beside it. */
export type How = "alone" | "mixed" | "beside";

export const question = signal<Question | null>(null);

/** Shows a direction; asks where one that lives at another site is meant. */
export async function choose(of: Made, how: How): Promise<void> {
  const shown = siteName(wanted.value);
  const { name, site: home } = await server.home(shown, of);
  if (home === shown) return put(of, how);
  question.value = { of, name, home, how };
}

export function answer(where: "there" | "here" | null): void {
  const { of, home, how, row } = question.value!;
  question.value = null;
  if (where === "here" && row !== undefined) return changeRow(row, { of: { ...of, here: true } });
  if (where === "there" && row !== undefined) return change(readSite(home)!, { push: true });
  if (where === "here") put({ ...of, here: true }, how);
  if (where === "there") {
    batch(() => {
      change(readSite(home)!);
      put(of, how);
    });
  }
}

function put({ site, ...given }: Made, how: How): void {
  const { rows } = wanted.value;
  const of: Made = site === undefined || site === siteName(wanted.value) ? given : { ...given, site }; // what is of the site that is shown need not say so
  const changed: Record<How, Partial<Shown>> = {
    alone: { rows: [rowOf(of)], free: false },
    mixed: { rows: [...rows, rowOf(of)], mixing: true },
    beside: { beside: [rowOf(of)], every: false },
  };
  change(changed[how], { push: true });
}

export function changeRow(index: number, patch: Partial<Row>): void {
  change({ rows: wanted.value.rows.map((row, i) => (i === index ? { ...row, ...patch } : row)) });
}

export function removeRow(index: number): void {
  change({ rows: wanted.value.rows.filter((_, i) => i !== index) }, { push: true });
}

/** What is known of every row at the site that is wanted. */
export const rowFacts = computed(() => {
  picture.value;
  return wanted.value.rows.map(({ of }) => store.facts(siteName(wanted.value), of));
});

export function pick(key: string, pos: number | null): void {
  change({ selected: key, pos });
}

/** Adds a text once the server has read it; the server's words are thrown where it will not. */
export async function addText(text: string): Promise<void> {
  const at = own.value.indexOf(text);
  if (at >= 0) return change({ selected: `own.${at}`, pos: null });
  const shown = wanted.value;
  await store.loadTokens([text]);
  const tokens = store.tokens(text)!;
  if ("problem" in tokens) {
    store.forget(text);
    throw new Error(tokens.problem);
  }
  const here = wishes(shown).filter(({ site }) => store.pca(site));
  for (const { site, rows } of here) await store.loadAlong(site, rows.map(({ of }) => of), [text], new AbortController().signal);
  if (!here.length) say("The text is coloured as soon as the components of this site are there.");
  batch(() => {
    own.value = [text, ...own.value];
    change({ selected: "own.0", pos: null });
  });
}

/** Keeps a text on the server, pinned. */
export async function keepText(text: string): Promise<void> {
  if (!isSomebody()) return;
  try {
    const known = (await library.texts()).find((one) => one.text === text);
    const { id } = known ?? (await library.addTexts([{ name: null, text }]))[0];
    await library.changeText(id, { pinned: true });
    say(known?.pinned ? "The text is kept already." : "The text is kept and pinned.", { link: { href: "/saved?tab=texts", text: "See your texts" }, seconds: 6 });
  } catch (error) {
    say(wordsOf(error));
  }
}

/** The texts that one has pinned stand first, unless a link says which do. */
export async function showPinned(): Promise<void> {
  const pinned = (await library.texts()).filter((one) => one.pinned).map(({ text }) => text);
  const { readable, refused } = await readTexts(pinned);
  refused.forEach((problem) => say(`A pinned text is not shown. ${problem}`));
  const more = readable.filter((text) => !own.peek().includes(text));
  if (more.length) own.value = [...own.peek(), ...more];
}

/** Adds several at a time; those that the model does not read are said, and left out. */
export async function addTexts(texts: readonly string[]): Promise<void> {
  const { readable, refused } = await readTexts(texts.slice(0, MOST));
  if (texts.length > MOST) say(`The file has ${texts.length} texts; the first ${MOST} are taken.`);
  if (refused.length) say(`${refused.length} of them cannot be read: ${refused[0]}`);
  const more = readable.filter((text) => !own.peek().includes(text));
  batch(() => {
    own.value = [...more, ...own.peek()];
    if (more.length) change({ selected: "own.0", pos: null });
  });
}

export function removeText(index: number): void {
  const { selected } = wanted.value;
  const at = selected?.startsWith("own.") ? Number(selected.slice(4)) : -1;
  batch(() => {
    own.value = own.value.filter((_, i) => i !== index);
    if (at === index) change({ selected: null, pos: null });
    else if (at > index) change({ selected: `own.${at - 1}` });
  });
}

// From wanted to shown -------------------------------------------------------------------------------------------

// The order by strength is the one of the direction that was shown when it was asked for: texts do not jump under a slider.
let byStrength: number[] | null = null;

/** Numbers of the sample texts that are shown, in their order. */
function numbersOf({ order, count }: Shown): number[] {
  const n = store.total === Infinity ? 0 : store.total;
  const all = order === "strongest" ? (byStrength ?? []) : order === "given" ? Array.from({ length: n }, (_, i) => i) : drawOrder(n, order);
  return all.slice(0, count);
}

/** Shows the sample texts in another order; by strength, it is that of what is shown now. */
export function chooseOrder(order: Shown["order"]): void {
  byStrength = null;
  change({ order });
}

/** The texts of the page: one's own first, then the samples. */
function textsOf(shown: Shown): { key: string; text: string; label: string; own: boolean }[] {
  return [
    ...own.value.map((text, i) => ({ key: `own.${i}`, text, label: `your text ${i}`, own: true })),
    ...numbersOf(shown).flatMap((number) => {
      const text = store.sample(number);
      return text === undefined ? [] : [{ key: String(number), text, label: `sample ${number}`, own: false }];
    }),
  ];
}

/** What is shown: the direction itself first, then what stands beside it. */
function wishes(shown: Shown): { site: string; rows: readonly Row[] }[] {
  const rows = sounding(shown.rows);
  const sites = shown.every && layers.peek() !== null ? Array.from({ length: layers.peek()! }, (_, layer) => siteName({ ...shown, layer })) : [];
  return [{ site: siteName(shown), rows }, ...sites.map((site) => ({ site, rows })), ...(shown.beside ? [{ site: siteName(shown), rows: sounding(shown.beside) }] : [])];
}

/** A direction at a site from what is here already; null where something has to be asked for. */
function panelOf(site: string, rows: readonly Row[], { free, centre }: Shown): Panel | null {
  const pca = store.pca(site);
  if (!pca) return null;
  const facts = rows.flatMap(({ of }) => store.facts(site, of) ?? []);
  if (facts.length < rows.length) return null;
  const sum = sumOf(rows, facts, pca);
  if (!sum) throw new Error("Nothing is left of the sum. Raise a slider, or take another direction.");
  const parts = centre === "position" ? rows.flatMap(({ of }) => store.byPosition(site, of) ?? []) : [];
  if (centre === "position" && parts.length < rows.length) return null;
  return { site, rows, facts, sum, factor: free ? sum.length : 1, name: sum.name, pca, byPosition: parts.length ? addUp(rows, parts, sum, free) : null };
}

function valuesOf({ site, rows, sum }: Panel, text: string, free: boolean): Float32Array | null {
  const parts = rows.flatMap(({ of }) => store.along(site, of, text) ?? []);
  return parts.length < rows.length ? null : addUp(rows, parts, sum, free);
}

/** The whole picture from what is here already; null where something has to be asked for. */
function pictureOf(shown: Shown): Picture | null {
  const numbers = numbersOf(shown);
  if (store.total === Infinity || numbers.length < Math.min(shown.count, store.total) || numbers.some((number) => store.sample(number) === undefined)) return null;
  if (store.pca(siteName(shown)) && !shown.rows.every(({ of }) => store.facts(siteName(shown), of))) return null; // the muted too have sliders
  const panels: Panel[] = [];
  for (const { site, rows } of wishes(shown)) {
    const panel = panelOf(site, rows, shown);
    if (!panel) return null;
    panels.push(panel);
  }
  const texts: ShownText[] = [];
  for (const text of textsOf(shown)) {
    const tokens = store.tokens(text.text);
    if (!tokens) return null;
    if ("problem" in tokens) {
      texts.push({ ...text, pieces: [], special: [], values: new Float32Array(), others: [], problem: tokens.problem });
      continue;
    }
    const all = panels.flatMap((panel) => valuesOf(panel, text.text, shown.free) ?? []);
    if (all.length < panels.length) return null;
    texts.push({ ...text, ...tokens, values: all[0], others: all.slice(1) });
  }
  return { ...panels[0], component: componentOf(shown), others: panels.slice(1), texts };
}

async function load(shown: Shown, signal: AbortSignal, onProgress: (progress: Progress) => void): Promise<void> {
  const site = siteName(shown);
  await Promise.all([store.loadTotal(signal), store.loadPca(site, onProgress, signal)]);
  total.value = store.total;
  if (shown.order === "strongest" && !byStrength) byStrength = await server.order(site, alongOf({ rows: sounding(shown.rows) }), signal).then(({ order }) => order);
  await store.loadSamples(numbersOf(shown), signal);
  await store.loadTokens(textsOf(shown).map(({ text }) => text), signal);
  const last = store.pca(site)!.shares.length - 1;
  const component = componentOf(shown);
  if (component !== null && component > last) {
    say(`${site} has the components 0 to ${last}; there is no ${component}. The last one is shown.`);
    change({ rows: [rowOf(componentNumber(last))] });
    return;
  }
  const texts = textsOf(shown).map(({ text }) => text);
  await store.loadFacts(site, shown.rows.map(({ of }) => of), signal);
  for (const wish of wishes(shown)) {
    await store.loadPca(wish.site, onProgress, signal);
    await store.loadAlong(wish.site, wish.rows.map(({ of }) => of), texts, signal);
    if (shown.centre === "position") await store.loadByPosition(wish.site, wish.rows.map(({ of }) => of), onProgress, signal);
  }
}

/** Of a link with a direction that lives elsewhere: where it is meant. */
async function askAnew(shown: Shown): Promise<void> {
  for (const [row, { of }] of shown.rows.entries()) {
    if (of.here) continue;
    const { name, site: home } = await server.home(siteName(shown), of);
    if (home !== siteName(shown)) return void (question.value = { of, name, home, how: "alone", row });
  }
}

let current: AbortController | null = null;

/** Shows what is wanted: at once from what is here, or when it has come; what was asked for and is no longer wanted is given up. */
export function draw(): void {
  const shown = wanted.peek();
  if (!model.peek() || !shown.kind) return;
  current?.abort();
  current = null;
  let ready: Picture | null;
  try {
    ready = pictureOf(shown);
  } catch (error) {
    batch(() => {
      work.value = null;
      trouble.value = { kind: "failed", status: 400, again: false, message: (error as Error).message, hint: "" };
    });
    return;
  }
  if (ready) {
    batch(() => {
      picture.value = ready;
      work.value = null;
      trouble.value = null;
    });
    prefetch(ready);
    return;
  }
  const controller = (current = new AbortController());
  const stop = (): void => {
    controller.abort();
    store.stop();
    batch(() => {
      work.value = null;
      trouble.value = { kind: "stopped" };
    });
  };
  batch(() => {
    work.value = { stop, progress: null };
    trouble.value = null;
  });
  load(shown, controller.signal, (progress) => {
    if (current === controller) work.value = { stop, progress };
  }).then(
    () => current === controller && draw(),
    (error) => {
      if (current !== controller || isAbort(error)) return;
      batch(() => {
        work.value = null;
        trouble.value = troubleOf(error);
      });
      if (error instanceof ServerError && error.code === "another_site") void askAnew(shown);
    },
  );
}

let ahead: AbortController | null = null;

/** Near the edge of a block the next one is fetched, so that `j` and `k` never wait. */
function prefetch({ site, component, pca, texts }: Picture): void {
  if (component === null) return;
  const block = Math.floor(component / BLOCK);
  const place = component % BLOCK;
  const next = place >= BLOCK - 6 ? block + 1 : place < 4 ? block - 1 : -1;
  if (next < 0 || next * BLOCK >= pca.shares.length) return;
  ahead?.abort();
  ahead = new AbortController();
  store.loadValues(site, next, texts.map(({ text }) => text), ahead.signal).catch(() => {}); // asked for again, and reported, when it is needed
}

const need = computed(() => JSON.stringify([wishes(wanted.value), wanted.value.free, wanted.value.centre === "position", wanted.value.count, wanted.value.order, own.value, model.value?.name]));
effect(() => {
  need.value;
  untracked(draw);
});

// What follows from the picture ----------------------------------------------------------------------------------

type Direction = Pick<Payload, "name" | "site" | "deviation" | "offset" | "centred" | "left_out" | "by_position">;

/** The fields of a view's payload that belong to a direction. */
export const payloadOf = ({ sum, factor, name, site, byPosition }: Panel): Direction => ({ name, site, deviation: sum.deviation && factor * sum.deviation, offset: factor * sum.offset, centred: true, left_out: sum.left_out, by_position: byPosition && Array.from(byPosition) });

export const direction = computed((): Direction | null => picture.value && payloadOf(picture.value));

/** Of each text, the values of every panel as they are shown. */
const shownPanels = computed(() => {
  const { units, centre } = settings.value;
  const { value: now } = picture;
  if (!now) return [];
  const payloads = [now, ...now.others].map(payloadOf);
  return now.texts.map(({ values, others }) => (values.length ? [values, ...others] : []).map((one, i) => shownValues(one, payloads[i], units, centre)));
});

/** Values of each text as they are shown, in order. */
export const shownTexts = computed(() => shownPanels.value.map(([first = new Float32Array()]) => first));

/** What is shown of each text: the direction of the sentence, or it at every layer, lowest first, and what stands beside it. */
export const panelsOf = ({ others, ...own }: Picture): Panel[] => (wanted.value.every ? [...others] : [own, ...others]);

/** A strip of colours: a direction on a text, or a difference. */
export interface Strip {
  label: string;
  direction: Direction;
  values: Float32Array; // raw
  here: boolean; // the direction that the sentence says
  text: ShownText; // whose tokens are coloured
  match: Match | null; // of the text that it stands under, where that is another: its token for each of that one's
}

/** What is shown of a text: the direction; every layer; two directions and their difference; another text, and it less this one. */
export function stripsOf(index: number): Strip[] {
  const now = picture.value!;
  const text = now.texts[index];
  const { units } = settings.value;
  const strip = (panel: Panel, values: Float32Array, label: string): Strip => ({ label, direction: panel === now ? direction.value! : payloadOf(panel), values, here: panel.site === now.site && panel.rows === now.rows, text, match: null });
  // Of what is shown already, in the unit that it is shown in.
  const difference = (label: string, values: Float32Array, left_out = now.sum.left_out): Strip => ({
    label,
    direction: { name: label, deviation: units === "sd" && direction.value!.deviation !== null ? 1 : null, offset: 0, centred: false, left_out },
    values,
    here: false,
    text,
    match: null,
  });
  const [first, ...rest] = shownPanels.value[index];
  const strips = wanted.value.every
    ? now.others.slice(0, layers.value ?? 0).map((panel, i) => strip(panel, text.others[i], panel.name)).reverse()
    : [strip(now, text.values, "")];
  if (wanted.value.beside && now.others.length) {
    const other = now.others.at(-1)!;
    strips[0].label = now.name;
    strips.push(strip(other, text.others.at(-1)!, other.name), difference("the second less the first", rest.at(-1)!.map((value, pos) => value - first[pos])));
  }
  const compared = index === chosen.value ? now.texts.findIndex(({ key, problem }, i) => key === wanted.value.against && i !== index && !problem) : -1;
  if (compared >= 0) {
    const other = now.texts[compared];
    const values = shownTexts.value[compared];
    const match = alignOnce(text.pieces, other.pieces);
    const leftOut = text.pieces.flatMap((_, pos) => (match[pos] === null || [pos, match[pos]].some((at) => now.sum.left_out.includes(at)) ? [pos] : []));
    strips[0].label ||= text.label;
    strips.push(
      { ...strip(now, other.values, other.label), here: false, text: other, match },
      difference(`${other.label} less ${text.label}`, first.map((value, pos) => (match[pos] === null ? NaN : values[match[pos]] - value)), leftOut),
    );
  }
  return strips;
}

let aligned: { a: readonly string[]; b: readonly string[]; match: Match } | null = null;

/** What does not change under a slider is computed once. */
function alignOnce(a: readonly string[], b: readonly string[]): Match {
  if (aligned?.a !== a || aligned.b !== b) aligned = { a, b, match: align(a, b) };
  return aligned.match;
}

const settingsText = computed(() => JSON.stringify([wanted.value.units, wanted.value.centre, wanted.value.scale]));
export const settings = computed(() => {
  settingsText.value;
  return untracked(() => ({ units: wanted.value.units, centre: wanted.value.centre, scale: wanted.value.scale }));
});

/** The end of the colour range of each text. */
export const limits = computed((): number[] => {
  const { scale } = settings.value;
  const texts = shownPanels.value;
  const leftOut = direction.value?.left_out ?? [];
  if (scale.mode === "fixed") return texts.map(() => scale.limit);
  if (scale.mode === "text") return texts.map((rows) => colourLimit(rows, leftOut));
  const limit = colourLimit(texts.flat(), leftOut);
  return texts.map(() => limit);
});

/** The place in the picture of the text that is selected: the first readable one where none is. */
export const chosen = computed((): number => {
  const texts = picture.value?.texts ?? [];
  const at = texts.findIndex(({ key }) => key === wanted.value.selected);
  return at >= 0 ? at : texts.findIndex(({ problem }) => !problem);
});

export const picked = computed((): Picked => {
  const { pos } = wanted.value;
  const text = picture.value?.texts[chosen.value];
  return pos !== null && text && pos < text.pieces.length ? { text: chosen.value, pos } : null;
});
