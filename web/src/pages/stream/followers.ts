// What is asked for because of what is shown: the river of the selected text, and what is most active at the picked token.

import { computed, effect, signal } from "@preact/signals";
import { server } from "../server.ts";
import { chosen, picked, picture } from "./state.ts";
import { Recent } from "./store.ts";

/** An answer that belongs to what is shown; the one before stays, marked old, until the new one is here. */
export interface Follower<T> {
  key: string;
  value: T | null;
  old: boolean;
  problem: string | null;
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
          if (!controller.signal.aborted) answer.value = { key, value: null, old: false, problem: error instanceof Error ? error.message : String(error) };
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

export interface River {
  text: string;
  rows: string[];
  values: Float32Array; // [layer pos], raw
  width: number;
}

const chosenText = computed(() => picture.value?.texts[chosen.value]?.text);
const here = computed(() => (picture.value ? `${picture.value.site}:${picture.value.component}` : ""));

/** The river of the selected text. */
export const river = follow<River>(
  () => {
    const text = chosenText.value;
    const key = here.value;
    if (text === undefined || !key) return null;
    const { site, component } = picture.peek()!;
    return {
      key: `${key}:${text}`,
      load: async (signal) => {
        const { payload, arrays } = await server.river(text, site, component, signal);
        return { text, rows: payload.rows, values: arrays.values.data, width: arrays.values.shape[1] };
      },
    };
  },
  64,
  60,
);

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
