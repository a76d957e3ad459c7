// What is asked for because of what is shown: the river of the selected text, and what is most active at the picked token.

import { computed, effect, signal } from "@preact/signals";
import { type Made, mayPass, server, wordsOf } from "../server.ts";
import { chosen, picked, picture } from "./state.ts";
import { Recent } from "./store.ts";
import { addUp } from "./sum.ts";

/** An answer that belongs to what is shown; the one before stays, marked old, until the new one is here. */
export interface Follower<T> {
  key: string;
  value: T | null;
  old: boolean;
  problem: { words: string; again: boolean } | null;
}

function follow<T>(need: () => { key: string; load: (signal: AbortSignal) => Promise<T> } | null, size: number, delay: number) {
  const known = new Recent<T>(size);
  const answer = signal<Follower<T>>({ key: "", value: null, old: false, problem: null });
  const again = signal(0);
  effect(() => {
    again.value;
    const wish = need();
    if (!wish) return;
    const { key } = wish;
    const here = known.get(key);
    if (here !== undefined) {
      answer.value = { key, value: here, old: false, problem: null };
      return;
    }
    answer.value = { ...answer.peek(), old: true, problem: null };
    const controller = new AbortController();
    const timer = setTimeout(() => {
      wish.load(controller.signal).then(
        (value) => {
          known.set(key, value);
          if (!controller.signal.aborted) answer.value = { key, value, old: false, problem: null };
        },
        (error) => {
          if (!controller.signal.aborted) answer.value = { key, value: null, old: false, problem: { words: wordsOf(error), again: mayPass(error) } };
        },
      );
    }, delay);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  });
  return { answer, retry: () => void again.value++ };
}

/** The rivers of a text along each direction that sounds: while a slider moves they stay, and their sum changes. */
interface Rivers {
  text: string;
  rows: string[];
  parts: Float32Array[]; // of each direction [layer pos], raw
  width: number;
}

export interface River extends Omit<Rivers, "parts"> {
  values: Float32Array; // [layer pos], raw
}

const chosenText = computed(() => picture.value?.texts[chosen.value]?.text);
const made = computed(() => JSON.stringify(picture.value && [picture.value.site, picture.value.rows.map(({ of }) => of)]));

/** The rivers of the selected text. */
const rivers = follow<Rivers>(
  () => {
    const text = chosenText.value;
    const [site, directions] = (JSON.parse(made.value) ?? []) as [string?, Made[]?];
    if (text === undefined || !site) return null;
    return {
      key: `${made.value}:${text}`,
      load: async (signal) => {
        const found = await Promise.all(directions!.map((of) => server.river(text, site, [{ weight: 1, of }], signal)));
        return { text, rows: found[0].payload.rows, parts: found.map(({ arrays }) => arrays.values.data), width: found[0].arrays.values.shape[1] };
      },
    };
  },
  64,
  60,
);

/** Their sum. */
export const river = {
  retry: rivers.retry,
  answer: computed((): Follower<River> => {
    const { value: found, ...rest } = rivers.answer.value;
    const now = picture.value;
    if (!found || !now || found.parts.length !== now.rows.length) return { ...rest, value: null };
    const { parts, ...river } = found;
    return { ...rest, value: { ...river, values: addUp(now.rows, parts, now.sum, now.factor !== 1) } };
  }),
};

export const MOST = 1024; // components among which the most active are looked for

export interface Activity {
  values: Float32Array; // [component pos], raw
  components: number;
  width: number;
}

const pickedText = computed(() => (picked.value ? chosenText.value : undefined));
const site = computed(() => picture.value?.site);

/** Every component at the tokens of the text with the picked one. */
export const activity = follow<Activity>(
  () => {
    const text = pickedText.value;
    const at = site.value;
    if (text === undefined || !at) return null;
    const components = Math.min(MOST, picture.peek()!.pca.shares.length);
    return {
      key: `${at}:${text}`,
      load: async (signal) => {
        const { arrays } = await server.projection([text], at, [0, components], signal);
        return { values: arrays.values.data, components, width: arrays.values.shape[2] };
      },
    };
  },
  4,
  120,
);
