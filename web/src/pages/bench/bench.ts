// A place that shows one analysis: what is asked for stands in the address, and its answer is a result with a view.

import { batch, effect, type Signal, signal } from "@preact/signals";
import type { Bytes } from "../../arrays.ts";
import attention from "../../views/attention.tsx";
import { saveFile } from "../../views/files.ts";
import { isOf, type Look, type Onward, type PlacedFeature } from "../../views/look.ts";
import { type Named, parseOnce, type Presented } from "../../views/present.tsx";
import feature from "../../views/feature.tsx";
import featureLife from "../../views/feature_life.tsx";
import singularVectors from "../../views/singular_vectors.tsx";
import vocabulary from "../../views/vocabulary.tsx";
import { hold } from "../hold.ts";
import { copyText, dismiss, say } from "../notes.tsx";
import { isAbort, type ModelFacts, type Progress, server, wordsOf } from "../server.ts";
import { model, readSession, writeSession } from "../session.ts";
import { type Trouble, troubleOf, type Work } from "../status.tsx";
import { type Embedded, embedCards } from "./embed.ts";

export type Fields = Readonly<Record<string, string>>;

export interface Ask {
  path: string; // of the server's interface
  body: Readonly<Record<string, unknown>>;
}

/** An address, or what is done. */
export type Way = readonly [text: string, to: string | (() => void)];

/** What is looked at closer, of what is picked. */
export interface Closer extends Ask {
  title: string;
  view: Presented;
  chosen?: Readonly<Record<string, unknown>>; // how its view stands
  onward?: readonly Way[]; // where there is more of it
  problem?: string; // why it cannot be asked for
}

/** The payload of a result, so far as the pages read it. */
interface Payload extends Named {
  view: string;
  pieces?: readonly (readonly string[])[];
  settings: Named["settings"] & { norm?: string };
}

/** A text in which heads are looked at. */
interface Prompt {
  text: string;
  called: string; // "in the clean prompt"
}

export interface Kind {
  views: Readonly<Record<string, Presented>>; // of the results that are asked for, and of those that a file may hold, by their name
  fields: Fields; // as they stand at first; every one has a part of the address
  words?: Readonly<Record<string, readonly string[]>>; // that are known, of fields that are one of some
  suit?: (facts: ModelFacts) => Fields; // those that are others for a model
  ask: (fields: Fields) => Ask; // throws a sentence where a field is none
  readFile?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>; // those of a result, where a file may hold others; throws a sentence
  findOwn?: (payload: any) => Promise<readonly string[]>; // the sites of a file's dictionaries that are the server's
  readAsked?: (payload: any, own: readonly string[]) => Promise<Fields>; // what a file's result was asked for; throws a sentence
  writeFile?: (data: Bytes, look: Look) => string; // the JSON of what is shown, in which it is saved
  kept?: (data: Bytes, look: Look) => Ask["body"]; // what of a look is part of a saved page, as it is asked for
  cards?: (data: Bytes, look: Look) => Embedded[]; // that are part of a saved page
  closer?: (fields: Fields, answer: Answer, look: Look) => Closer[]; // besides what the view leads to
  onward?: (feature: PlacedFeature) => readonly Way[]; // from a feature's card
  prompt: (fields: Fields, answer: Answer, chosen: Readonly<Record<string, unknown>>) => Prompt;
}

/** A result from a file that nothing can be asked of. */
interface Apart {
  says: string;
  own: readonly string[]; // sites whose dictionaries are the server's
}

export interface Answer {
  payload: Payload;
  data: Uint8Array<ArrayBuffer>;
  asked: Ask | null; // null: opened from a file, and not what the fields ask for
  apart: Apart | null; // what is known of it then
  whole: boolean; // else some of it is not known yet
}

export interface Card extends Omit<Closer, "problem"> {
  data: Uint8Array<ArrayBuffer> | null;
  problem: string | null;
}

export const same = (a: Ask | null | undefined, b: Ask): boolean => a?.path === b.path && JSON.stringify(a.body) === JSON.stringify(b.body);

/** The fields and the look that a query has over `start`; `problems` has a sentence for what could not be read. */
export function readFields(query: URLSearchParams, start: Fields, words: Kind["words"] = {}): { fields: Fields; look: Look; problems: string[] } {
  const problems: string[] = [];
  const leave = (name: string): void => void problems.push(`The link says ${name}=${query.get(name)}, which is not understood; it was left out.`);
  const read = (name: string): string | null => {
    const text = query.get(name);
    if (text === null || (words[name]?.includes(text) ?? true)) return text;
    leave(name);
    return null;
  };
  const fields = Object.fromEntries(Object.entries(start).map(([name, usual]) => [name, read(name) ?? usual]));
  const text = query.get("look");
  if (text === null) return { fields, look: {}, problems };
  try {
    const look: unknown = JSON.parse(text);
    if (typeof look === "object" && look !== null && !Array.isArray(look)) return { fields, look, problems };
  } catch {}
  leave("look");
  return { fields, look: {}, problems };
}

export function writeFields(fields: Fields, look: Look, start: Fields): URLSearchParams {
  const query = new URLSearchParams(Object.entries(fields).filter(([name, value]) => value !== start[name]));
  if (Object.values(look).some((value) => value != null)) query.set("look", JSON.stringify(look));
  return query;
}

/** What shows more of what is picked. */
function listCloser({ heads = [], cells = [], features = [] }: Onward, { text, called }: Prompt, norm: string | undefined, own: boolean, more: Kind["onward"]): Closer[] {
  const names = heads.map(({ layer, head }) => `${layer}.${head}`);
  const [one] = heads;
  const [cell, minus = null] = cells;
  const place = ({ site, pos }: { site: string; pos: number }): string => `${site} at ${pos}`;
  return [
    ...(one ? [{ title: `Attention of head ${names.join(" and ")} ${called}`, path: "attention", body: { text, heads: heads.map(({ layer, head }) => [layer, head]) }, view: attention }] : []),
    ...(heads.length === 1 ? [{ title: `What head ${names[0]} reads and writes`, path: "singular_vectors", body: { layer: one.layer, head: one.head }, view: singularVectors }] : []),
    ...features.map((placed) => ({ title: `Feature ${placed.feature} of ${placed.site}`, path: "feature", body: { site: placed.site, feature: placed.feature }, view: feature, onward: [["Colour texts by it", `/stream?${new URLSearchParams({ site: placed.site, along: JSON.stringify([[1, { kind: "feature", feature: placed.feature }]]) })}`], ...(own ? (more?.(placed) ?? []) : [])] satisfies Way[] })),
    ...(own ? features : []).map(({ name, ...placed }) => ({ title: `Life of ${name} in the stream`, path: "feature_life", body: { text, site: placed.site, feature: placed.feature, pos: placed.pos }, view: featureLife })),
    ...(cell ? [{ title: `Vocabulary of ${place(cell)}${minus ? `, less that of ${place(minus)}` : ""}`, path: "lens_vocabulary", body: { text, norm, cell, minus }, view: vocabulary }] : []),
  ];
}

export class Bench {
  readonly fields: Signal<Fields>;
  readonly look = signal<Look>({});
  readonly answer = signal<Answer | null>(null);
  readonly cards = signal<readonly Card[]>([]); // of what is picked
  readonly pinned = signal<readonly Card[]>([]);
  readonly work = signal<Work | null>(null);
  readonly trouble = signal<Trouble | null>(null);
  private current: AbortController | null = null;
  private closing: AbortController | null = null;
  private pushing = false;
  private early: Fields | null = null; // what was changed before the model was known
  private opening: File | null = null; // what was opened
  usual: Fields; // what is asked for where nobody says otherwise

  constructor(readonly kind: Kind) {
    this.usual = kind.fields;
    this.fields = signal(kind.fields);
  }

  /** The view of what is shown. */
  viewOf = ({ payload }: Answer): Presented => this.kind.views[payload.view];

  /** Opens the place: asks for the model, and shows what the address says. */
  start = (): void => {
    addEventListener("popstate", () => (dismiss(), this.readAddress()));
    effect(() => {
      if (!model.value) return;
      // How a result is looked at that the fields do not ask for is in no address.
      const query = writeSession(writeFields(this.fields.value, this.answer.value?.apart ? {} : this.look.value, this.usual));
      const [url, pushing] = [`${location.pathname}?${query}`, this.pushing];
      this.pushing = false;
      if (url === location.pathname + location.search) return;
      if (pushing) history.pushState(null, "", url);
      else history.replaceState(null, "", url);
    });
    void this.begin();
  };

  private async begin(): Promise<void> {
    this.trouble.value = null;
    try {
      const facts = await server.model();
      batch(() => {
        model.value = facts;
        this.usual = { ...this.kind.fields, ...this.kind.suit?.(facts) };
        this.readAddress();
        if (this.early) this.change(this.early);
      });
      if (this.opening) void this.openFile(this.opening);
    } catch (error) {
      this.trouble.value = troubleOf(error);
    }
  }

  private readAddress(): void {
    const query = new URLSearchParams(location.search);
    const { fields, look, problems } = readFields(query, this.usual, this.kind.words);
    problems.push(...readSession(query));
    batch(() => {
      this.fields.value = fields;
      this.look.value = look;
    });
    problems.forEach((problem) => say(problem));
    this.load();
  }

  retry = (): void => (model.value ? this.load() : void this.begin());

  /** Changes what is asked for; what was picked of another answer is let go. */
  change = (changed: Fields): void => {
    if (!model.value) this.early = { ...this.early, ...changed };
    const fields = { ...this.fields.value, ...changed };
    if (JSON.stringify(fields) === JSON.stringify(this.fields.value) && this.answer.value?.asked) return;
    this.pushing = true;
    batch(() => {
      this.fields.value = fields;
      if (!this.isAnswered()) this.look.value = { ...this.look.value, picked: undefined };
    });
    if (model.value) this.load();
  };

  see = (key: keyof Look, value: unknown): void => {
    this.look.value = { ...this.look.value, [key]: value };
    if (key === "picked" || (this.kind.closer && !this.isLooked())) this.loadCards();
  };

  lookAt = (look: Look): void => {
    this.look.value = look;
    this.loadCards();
  };

  /** Lets go of what is picked; whether anything was. */
  leave = (): boolean => {
    const { picked } = this.look.peek();
    if (picked != null) this.see("picked", null);
    return picked != null;
  };

  pin = (card: Card): void => void (this.pinned.value = [...this.pinned.value, card]);
  unpin = (card: Card): void => void (this.pinned.value = this.pinned.value.filter((one) => one !== card));

  /** Whether what is shown is the whole answer to the fields, some of which only the cards may read. */
  private isAnswered(): boolean {
    const answer = this.answer.peek();
    if (!answer?.whole || this.work.peek() || this.trouble.peek()) return false;
    const asked = this.ask();
    return !(asked instanceof Error) && same(answer.asked, asked);
  }

  /** What the fields ask for, or what is wrong with them. */
  private ask(): Ask | Error {
    try {
      return this.kind.ask(this.fields.peek());
    } catch (error) {
      return error as Error;
    }
  }

  private load(): void {
    if (this.isAnswered()) return this.loadCards();
    this.current?.abort();
    const controller = (this.current = new AbortController());
    const asked = this.ask();
    if (asked instanceof Error) {
      batch(() => {
        this.work.value = null;
        this.trouble.value = troubleOf(asked);
      });
      return;
    }
    const stop = (): void => {
      controller.abort();
      batch(() => {
        this.work.value = null;
        this.trouble.value = { kind: "stopped" };
      });
    };
    const work = { stop, hold: () => void hold(asked.path, asked.body) };
    batch(() => {
      this.work.value = { ...work, progress: null };
      this.trouble.value = null;
    });
    const mine = (): boolean => this.current === controller && !controller.signal.aborted;
    const advance = (progress: Progress, soFar: Uint8Array<ArrayBuffer> | null): void => {
      if (!mine()) return;
      this.work.value = { ...work, progress };
      if (soFar) this.show(soFar, asked, false);
    };
    server.analysis(asked.path, asked.body, advance, controller.signal).then(
      (data) => mine() && this.show(data, asked),
      (error) => {
        if (!mine() || isAbort(error)) return;
        batch(() => {
          this.work.value = null;
          this.trouble.value = troubleOf(error);
        });
      },
    );
  }

  private show(data: Uint8Array<ArrayBuffer>, asked: Ask | null, whole = true, apart: Apart | null = null): void {
    const payload = parseOnce(data).payload as Payload;
    const { look, left } = this.kind.views[payload.view].fit(data, this.look.peek());
    batch(() => {
      this.answer.value = { payload, data, asked, whole, apart };
      if (left.length) this.look.value = look;
      if (!whole) return;
      this.work.value = null;
      this.trouble.value = null;
    });
    if (left.length) say(`What is shown now has no ${left.join(", ")}; it was left out.`);
    if (whole) this.loadCards();
  }

  /** Whether the cards are those of what is looked at. */
  private isLooked(): boolean {
    const [now, wanted] = [this.cards.peek(), this.listCloser()];
    return now.length === wanted.length && wanted.every((one, i) => same(now[i], one) && JSON.stringify(now[i].chosen) === JSON.stringify(one.chosen));
  }

  private loadCards(): void {
    this.closing?.abort();
    const controller = (this.closing = new AbortController());
    const asked = this.listCloser();
    const before = this.cards.peek();
    this.cards.value = asked.map((one: Closer) => ({ ...one, data: one.problem === undefined ? (before.find(({ path }) => path === one.path)?.data ?? null) : null, problem: one.problem ?? null }));
    asked.forEach((one: Closer, number: number) => {
      if (one.problem !== undefined) return;
      const put = (changed: Partial<Card>): void => {
        if (this.closing === controller) this.cards.value = this.cards.peek().map((card, i) => (i === number ? { ...card, ...changed } : card));
      };
      server.analysis(one.path, one.body, () => {}, controller.signal).then(
        (data) => put({ data }),
        (error) => isAbort(error) || put({ data: null, problem: `${error.message} ${error.hint ?? ""}` }),
      );
    });
  }

  private listCloser(): Closer[] {
    const answer = this.answer.peek();
    const { picked = null, chosen } = this.look.peek();
    if (!answer) return [];
    const more = answer.asked ? (this.kind.closer?.(this.fields.peek(), answer, this.look.peek()) ?? []) : [];
    if (picked === null) return more;
    const { heads, cells, features } = this.viewOf(answer).onward(answer.data, picked);
    const prompt = this.kind.prompt(this.fields.peek(), answer, (chosen ?? {}) as Record<string, unknown>);
    const known = heads?.filter((head) => isOf(model.peek()!.name, head));
    const explained = answer.apart?.own ?? Object.keys(model.peek()!.dictionaries);
    // A file's cells are of a text, and perhaps of a model, that is not this page's.
    return [...more, ...listCloser({ heads: known, cells: answer.asked ? cells : [], features: features?.filter(({ site }) => explained.includes(site)) }, prompt, answer.payload.settings.norm, answer.asked !== null, this.kind.onward)];
  }

  /** Shows a result from a file that `result.save()` wrote. */
  openFile = async (file: File): Promise<void> => {
    if (!model.peek()) return void (this.opening = file);
    dismiss();
    try {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const data = this.kind.readFile?.(bytes) ?? bytes;
      const payload = readResult(data);
      const { view, name } = payload;
      if (!Object.hasOwn(this.kind.views, view)) {
        const place = PLACE_OF[view];
        return say(`${file.name} holds ${name}. ${place ? `Open it in the place ${place}.` : "No place opens such a file; rs.open does, in Python."}`);
      }
      const own = (await this.kind.findOwn?.(payload)) ?? [];
      const [fields, why] = await this.readAsked(payload, own);
      const look = this.kind.views[view].first(data);
      this.current?.abort();
      batch(() => {
        this.look.value = look;
        if (fields) {
          this.pushing = true;
          this.fields.value = fields;
        }
        this.show(data, fields && this.kind.ask(fields), true, fields ? null : { says: `${file.name} is shown, and what is asked for above is not what it was made of. ${why}`.trim(), own });
      });
    } catch (error) {
      say(`${file.name} is no saved result. ${error instanceof Error ? error.message : error} Give a file that "Save" or result.save() wrote.`);
    }
  };

  /** What a file's result was asked for, or why that cannot be asked here. */
  private async readAsked(payload: Payload, own: readonly string[]): Promise<[Fields | null, string]> {
    try {
      return this.kind.readAsked ? [{ ...this.usual, ...(await this.kind.readAsked(payload, own)) }, ""] : [null, ""];
    } catch (error) {
      return [null, wordsOf(error)];
    }
  }

  link = (): Promise<void> => copyText(location.href, "Link");

  saveResult = (): void => {
    const { data, payload } = this.answer.value!;
    const json = this.kind.writeFile?.(data, this.look.value);
    say(`${saveFile(new Blob([json ?? data]), payload.name, json === undefined ? "safetensors" : "json")} saved to your downloads; rs.open reads it.`, { seconds: 4 });
  };

  /** Makes it a run of one's own, with what is put on it. */
  keep = (): void => {
    const { asked, data } = this.answer.value!;
    void hold(asked!.path, { ...asked!.body, ...this.kind.kept!(data, this.look.peek()) }, "It is kept among your runs, with what is put on it.");
  };

  saveHtml = async (): Promise<void> => {
    const { asked, payload, data } = this.answer.value!;
    const cards = this.kind.cards?.(data, this.look.peek()) ?? [];
    try {
      const page = await server.analysisHtml(asked!.path, { ...asked!.body, ...this.kind.kept?.(data, this.look.peek()) });
      say(`${saveFile(await embedCards(page, cards), payload.name, "html")} saved to your downloads.`, { seconds: 4 });
    } catch (error) {
      if (isAbort(error)) return;
      say(`HTML could not be made. ${error instanceof Error ? error.message : error}`);
    }
  };
}

/** The payload of a file's bytes. */
function readResult(data: Uint8Array): Payload {
  const payload = parseOnce(data).payload as Payload | null;
  if (typeof payload?.view !== "string") throw new Error("It has no payload that names a view.");
  return payload;
}

/** Which place opens the results of a view. */
const PLACE_OF: Record<string, string> = {
  logit_lens: "Lens",
  next_tokens: "Lens",
  vocabulary: "Lens",
  patching: "Patch",
  comparison: "Patch",
  ablation: "Patch",
  heads: "Heads",
  head_mosaic: "Heads",
  composition: "Heads",
  attribution: "Heads",
  attention: "Heads",
  singular_vectors: "Heads",
  graph: "Graph",
};
