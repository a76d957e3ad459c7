// What the server already said: tokens, components and projections, each asked for once.

import { type DirectionFacts, type Made, type Pca, type Progress, server, ServerError, type Tokens } from "../server.ts";

export const BLOCK = 32; // components asked for at once
const MAX_FLOATS = 32 * 2 ** 20; // 128 MiB of projections are kept

/** A text the server would not read, in its words. */
export interface Refused {
  problem: string;
}

type Values = Map<string, Float32Array>; // by text: [component pos], BLOCK components or what is left of them; of another direction [pos]

/** The number of a component of the site itself. */
const numberOf = (of: Made): number | null => (of.kind === "pca" && of.site === undefined ? (of.component as number) : null);

export class Store {
  readonly #samples = new Map<number, string>();
  total = Infinity;
  readonly #tokens = new Map<string, Tokens | Refused>();
  readonly #pca = new Map<string, Pca>();
  readonly #facts = new Map<string, DirectionFacts>(); // by site and direction
  readonly #byPosition = new Map<string, Float32Array>(); // by site and direction [pos]
  readonly #blocks = new Map<string, Values>(); // the least recently used first
  #floats = 0;
  #computing: { site: string; answer: Promise<Pca>; controller: AbortController; listeners: Set<(progress: Progress) => void> } | null = null;

  constructor(readonly contextLength: number) {}

  tokens = (text: string): Tokens | Refused | undefined => this.#tokens.get(text);
  pca = (site: string): Pca | undefined => this.#pca.get(site);

  /** Raw projections [pos] of a text, where they are here already. */
  values(site: string, component: number, text: string): Float32Array | undefined {
    const block = this.#touch(`${site}:${Math.floor(component / BLOCK)}`);
    const tokens = this.#tokens.get(text);
    if (!tokens || "problem" in tokens) return undefined;
    const n = tokens.pieces.length;
    return block?.get(text)?.subarray((component % BLOCK) * n, ((component % BLOCK) + 1) * n);
  }

  /** What is known of a direction at a site. */
  facts(site: string, of: Made): DirectionFacts | undefined {
    const key = `${site}:${JSON.stringify(of)}`;
    const number = numberOf(of);
    const pca = this.#pca.get(site);
    if (number !== null && pca && number < pca.shares.length && !this.#facts.has(key))
      this.#facts.set(key, {
        name: `PCA ${number} of ${site.replace(":", " head ")}`,
        deviation: pca.deviations[number] || null,
        offset: pca.offsets[number],
        left_out: pca.left_out,
        history: { kind: "pca", component: number },
        cosines: pca.shares.map((_, i) => (i === number ? 1 : 0)),
      });
    return this.#facts.get(key);
  }

  /** Raw projections [pos] of a text on a direction, where they are here already. */
  along(site: string, of: Made, text: string): Float32Array | undefined {
    const number = numberOf(of);
    return number !== null ? this.values(site, number, text) : this.#touch(`${site}:${JSON.stringify(of)}`)?.get(text);
  }

  /** Lets a refused text be tried again. */
  forget(text: string): void {
    this.#tokens.delete(text);
  }

  sample = (number: number): string | undefined => this.#samples.get(number);

  /** How many sample texts there are. */
  async loadTotal(signal: AbortSignal): Promise<number> {
    if (this.total === Infinity) this.total = (await server.texts(0, 1, signal)).total;
    return this.total;
  }

  async loadSamples(numbers: readonly number[], signal: AbortSignal): Promise<void> {
    const missing = numbers.filter((number) => !this.#samples.has(number));
    if (!missing.length) return;
    const { texts } = await server.chosenTexts(missing, signal);
    missing.forEach((number, i) => this.#samples.set(number, texts[i]));
  }

  /** Tokens of every text; one that the server refuses is remembered with its words and spoils no other. */
  async loadTokens(texts: readonly string[], signal?: AbortSignal): Promise<void> {
    const missing = [...new Set(texts)].filter((text) => !this.#tokens.has(text));
    if (!missing.length) return;
    try {
      const answer = await server.tokens(missing, signal);
      missing.forEach((text, i) => this.#tokens.set(text, this.#fitting(answer.texts[i])));
    } catch (error) {
      if (!(error instanceof ServerError) || error.status === 0 || error.status >= 500) throw error;
      if (missing.length === 1) this.#tokens.set(missing[0], { problem: `${error.message} ${error.hint}`.trim() });
      else for (const text of missing) await this.loadTokens([text], signal);
    }
  }

  #fitting(tokens: Tokens): Tokens | Refused {
    const n = tokens.pieces.length;
    return n <= this.contextLength ? tokens : { problem: `This text has ${n} tokens; the model reads at most ${this.contextLength}.` };
  }

  /** The components of a site. Asking for another site gives up the one that is being computed. */
  async loadPca(site: string, onProgress: (progress: Progress) => void, signal: AbortSignal): Promise<Pca> {
    const known = this.#pca.get(site);
    if (known) return known;
    if (this.#computing?.site !== site || this.#computing.controller.signal.aborted) {
      this.stop();
      const controller = new AbortController();
      const listeners = new Set<(progress: Progress) => void>();
      const answer = server.pca(site, (progress) => listeners.forEach((listener) => listener(progress)), controller.signal);
      const computing = (this.#computing = { site, answer, controller, listeners });
      answer
        .then((pca) => this.#pca.set(site, pca))
        .catch(() => {})
        .finally(() => this.#computing === computing && (this.#computing = null));
    }
    const { answer, listeners } = this.#computing;
    listeners.add(onProgress);
    try {
      return await Promise.race([answer, new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }))]);
    } finally {
      listeners.delete(onProgress);
    }
  }

  /** Ends the computation of components, at the server too. */
  stop(): void {
    this.#computing?.controller.abort();
    this.#computing = null;
  }

  async loadFacts(site: string, made: readonly Made[], signal: AbortSignal): Promise<void> {
    const unknown = made.filter((of) => !this.facts(site, of));
    if (!unknown.length) return;
    const { directions } = await server.describe(site, unknown, signal);
    unknown.forEach((of, i) => this.#facts.set(`${site}:${JSON.stringify(of)}`, directions[i]));
  }

  byPosition = (site: string, of: Made): Float32Array | undefined => this.#byPosition.get(`${site}:${JSON.stringify(of)}`);

  async loadByPosition(site: string, made: readonly Made[], onProgress: (progress: Progress) => void, signal: AbortSignal): Promise<void> {
    const unknown = made.filter((of) => !this.byPosition(site, of));
    if (!unknown.length) return;
    const { shape, data } = (await server.byPosition(site, unknown, onProgress, signal)).arrays.values;
    unknown.forEach((of, i) => this.#byPosition.set(`${site}:${JSON.stringify(of)}`, data.subarray(i * shape[1], (i + 1) * shape[1])));
  }

  /** The facts of directions, and the values of texts on them. */
  async loadAlong(site: string, made: readonly Made[], texts: readonly string[], signal: AbortSignal): Promise<void> {
    await this.loadFacts(site, made, signal);
    const blocks = new Set(made.map(numberOf).flatMap((number) => (number === null ? [] : [Math.floor(number / BLOCK)])));
    const others = made.filter((of) => numberOf(of) === null);
    await Promise.all([...blocks].map((block) => this.loadValues(site, block, texts, signal)));
    for (const of of others) {
      const key = `${site}:${JSON.stringify(of)}`;
      const missing = this.#missing(key, texts);
      if (missing.length) this.#keep(key, missing, (await server.values(missing, site, [of], signal)).arrays.values);
    }
  }

  async loadValues(site: string, block: number, texts: readonly string[], signal: AbortSignal): Promise<void> {
    const key = `${site}:${block}`;
    const missing = this.#missing(key, texts);
    if (!missing.length) return;
    const from = block * BLOCK;
    const to = Math.min(from + BLOCK, this.#pca.get(site)?.shares.length ?? Infinity);
    this.#keep(key, missing, (await server.projection(missing, site, [from, to], signal)).arrays.values);
  }

  #missing(key: string, texts: readonly string[]): string[] {
    const held = this.#touch(key);
    return [...new Set(texts)].filter((text) => !held?.has(text) && !("problem" in (this.#tokens.get(text) ?? { problem: "" })));
  }

  /** Keeps [component batch pos] by text, and forgets what was used longest ago. */
  #keep(key: string, missing: readonly string[], { shape: [components, batch, width], data }: { shape: number[]; data: Float32Array }): void {
    const values: Values = this.#blocks.get(key) ?? new Map();
    missing.forEach((text, i) => {
      const n = (this.#tokens.get(text) as Tokens).pieces.length;
      const own = new Float32Array(components * n);
      for (let c = 0; c < components; c++) own.set(data.subarray((c * batch + i) * width, (c * batch + i) * width + n), c * n);
      values.set(text, own);
      this.#floats += own.length;
    });
    this.#blocks.set(key, values);
    for (const [longest, old] of this.#blocks) {
      if (this.#floats <= MAX_FLOATS || old === values) break;
      for (const own of old.values()) this.#floats -= own.length;
      this.#blocks.delete(longest);
    }
  }

  #touch(key: string): Values | undefined {
    const values = this.#blocks.get(key);
    if (values) {
      this.#blocks.delete(key);
      this.#blocks.set(key, values);
    }
    return values;
  }
}

/** A map that forgets what was used longest ago. */
export class Recent<V> {
  readonly #entries = new Map<string, V>();
  constructor(readonly size: number) {}

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.size) this.#entries.delete(this.#entries.keys().next().value!);
  }
}
