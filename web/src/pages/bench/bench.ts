// A place that shows one analysis: what is asked for stands in the address, and its answer is a result with a view.

import { batch, effect, type Signal, signal } from "@preact/signals";
import { parseArrays } from "../../arrays.ts";
import type { View } from "../../host.ts";
import { saveFile } from "../../views/files.ts";
import { copyText, dismiss, say } from "../notes.tsx";
import { isAbort, type Progress, server } from "../server.ts";
import { model, readSession, writeSession } from "../session.ts";
import { type Trouble, troubleOf, type Work } from "../status.tsx";

export type Fields = Readonly<Record<string, string>>;

export interface Ask {
  path: string; // of the server's interface
  body: Readonly<Record<string, unknown>>;
}

/** How a view's controls stand, and what is picked in it. */
export interface Look {
  chosen?: object;
  picked?: any;
  scale?: object;
}

/** What is looked at closer, of what is picked. */
export interface Closer extends Ask {
  title: string;
  view: View;
}

export interface Kind {
  view: View;
  fields: Fields; // as they stand at first; every one has a part of the address
  ask: (fields: Fields) => Ask;
  others?: Readonly<Record<string, View>>; // of results that a file may hold beside those that are asked for, by their name
  closer?: (fields: Fields, picked: any, payload: any) => readonly Closer[];
}

interface Answer {
  name: string;
  payload: any;
  data: Uint8Array<ArrayBuffer>;
  asked: Ask | null; // null: opened from a file
  whole: boolean; // else some of it is not known yet
}

export interface Card extends Closer {
  data: Uint8Array<ArrayBuffer> | null;
  problem: string | null;
}

export const same = (a: Ask | null | undefined, b: Ask): boolean => a?.path === b.path && JSON.stringify(a.body) === JSON.stringify(b.body);

/** The fields and the look that a query has over `start`; `problems` has a sentence for what could not be read. */
export function readFields(query: URLSearchParams, start: Fields): { fields: Fields; look: Look; problems: string[] } {
  const fields = Object.fromEntries(Object.entries(start).map(([name, usual]) => [name, query.get(name) ?? usual]));
  const text = query.get("look");
  if (text === null) return { fields, look: {}, problems: [] };
  try {
    const look: unknown = JSON.parse(text);
    if (typeof look === "object" && look !== null && !Array.isArray(look)) return { fields, look, problems: [] };
  } catch {}
  return { fields, look: {}, problems: [`The link says look=${text}, which is not understood; it was left out.`] };
}

export function writeFields(fields: Fields, look: Look, start: Fields): URLSearchParams {
  const query = new URLSearchParams(Object.entries(fields).filter(([name, value]) => value !== start[name]));
  if (Object.values(look).some((value) => value != null)) query.set("look", JSON.stringify(look));
  return query;
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

  constructor(readonly kind: Kind) {
    this.fields = signal(kind.fields);
  }

  /** Opens the place: asks for the model, and shows what the address says. */
  start = (): void => {
    addEventListener("popstate", () => (dismiss(), this.readAddress()));
    effect(() => {
      if (!model.value) return;
      const query = writeSession(writeFields(this.fields.value, this.look.value, this.kind.fields));
      const url = `${location.pathname}?${query}`;
      if (url === location.pathname + location.search) return;
      if (this.pushing) history.pushState(null, "", url);
      else history.replaceState(null, "", url);
      this.pushing = false;
    });
    void this.begin();
  };

  private async begin(): Promise<void> {
    this.trouble.value = null;
    try {
      const facts = await server.model();
      batch(() => {
        model.value = facts;
        this.readAddress();
      });
    } catch (error) {
      this.trouble.value = troubleOf(error);
    }
  }

  private readAddress(): void {
    const query = new URLSearchParams(location.search);
    const { fields, look, problems } = readFields(query, this.kind.fields);
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
    const fields = { ...this.fields.value, ...changed };
    if (JSON.stringify(fields) === JSON.stringify(this.fields.value) && this.answer.value?.asked) return;
    this.pushing = true;
    batch(() => {
      this.fields.value = fields;
      if (!this.isAnswered()) this.look.value = { ...this.look.value, picked: undefined };
    });
    this.load();
  };

  see = (key: keyof Look, value: unknown): void => {
    this.look.value = { ...this.look.value, [key]: value };
    if (key === "picked") this.loadCards();
  };

  pin = (card: Card): void => void (this.pinned.value = [...this.pinned.value, card]);
  unpin = (card: Card): void => void (this.pinned.value = this.pinned.value.filter((one) => one !== card));

  /** Whether what is shown is the whole answer to the fields, some of which only the cards may read. */
  private isAnswered(): boolean {
    const answer = this.answer.peek();
    return !!answer?.whole && !this.work.peek() && !this.trouble.peek() && same(answer.asked, this.kind.ask(this.fields.peek()));
  }

  private load(): void {
    if (this.isAnswered()) return this.loadCards();
    this.current?.abort();
    const controller = (this.current = new AbortController());
    const asked = this.kind.ask(this.fields.peek());
    const stop = (): void => {
      controller.abort();
      batch(() => {
        this.work.value = null;
        this.trouble.value = { kind: "stopped" };
      });
    };
    batch(() => {
      this.work.value = { stop, progress: null };
      this.trouble.value = null;
    });
    const mine = (): boolean => this.current === controller && !controller.signal.aborted;
    const advance = (progress: Progress, soFar: Uint8Array<ArrayBuffer> | null): void => {
      if (!mine()) return;
      this.work.value = { stop, progress };
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

  private show(data: Uint8Array<ArrayBuffer>, asked: Ask | null, whole = true): void {
    const { payload } = parseArrays<any>(data);
    batch(() => {
      this.answer.value = { name: payload.name, payload, data, asked, whole };
      if (!whole) return;
      this.work.value = null;
      this.trouble.value = null;
    });
    if (whole) this.loadCards();
  }

  private loadCards(): void {
    this.closing?.abort();
    const controller = (this.closing = new AbortController());
    const { picked } = this.look.peek();
    const answer = this.answer.peek();
    const asked = (picked && answer?.asked && this.kind.closer?.(this.fields.peek(), picked, answer.payload)) || [];
    const before = this.cards.peek();
    this.cards.value = asked.map((one: Closer) => ({ ...one, data: before.find(({ path }) => path === one.path)?.data ?? null, problem: null }));
    asked.forEach((one: Closer, number: number) => {
      const put = (changed: Partial<Card>): void => {
        if (this.closing === controller) this.cards.value = this.cards.peek().map((card, i) => (i === number ? { ...card, ...changed } : card));
      };
      server.analysis(one.path, one.body, () => {}, controller.signal).then(
        (data) => put({ data }),
        (error) => isAbort(error) || put({ data: null, problem: `${error.message} ${error.hint ?? ""}` }),
      );
    });
  }

  /** Shows a result from a file that `result.save()` wrote. */
  openFile = async (file: File): Promise<void> => {
    try {
      const data = new Uint8Array(await file.arrayBuffer());
      const { payload } = parseArrays<any>(data);
      const place = PLACE_OF[payload.view];
      if (place !== location.pathname) throw new Error(`It holds ${payload.name ?? "something else"}${place ? `, which the place ${place} shows` : ""}.`);
      this.current?.abort();
      batch(() => {
        this.look.value = {};
        this.show(data, null);
      });
    } catch (error) {
      say(`${file.name} cannot be shown here. ${error instanceof Error ? error.message : error} Give a file that "Save" or result.save() wrote.`);
    }
  };

  link = (): Promise<void> => copyText(location.href, "Link");

  saveResult = (): void => {
    const { data, name } = this.answer.value!;
    say(`${saveFile(new Blob([data]), name, "safetensors")} saved to your downloads; rs.open reads it.`, { seconds: 4 });
  };

  saveHtml = async (): Promise<void> => {
    const { asked, name } = this.answer.value!;
    try {
      say(`${saveFile(await server.analysisHtml(asked!.path, asked!.body), name, "html")} saved to your downloads.`, { seconds: 4 });
    } catch (error) {
      say(`HTML could not be made. ${error instanceof Error ? error.message : error}`);
    }
  };
}

/** Which place shows a view. */
const PLACE_OF: Record<string, string> = { logit_lens: "/lens", patching: "/patch", heads: "/heads", head_mosaic: "/heads" };
