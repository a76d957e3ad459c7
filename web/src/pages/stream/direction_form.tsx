// Directions of other kinds than a component: what each needs to be said, and where one that lives elsewhere is meant.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { useClose } from "../keys.ts";
import { isShown, keptOf, library, type Saved } from "../library.ts";
import { model } from "../session.ts";
import { isAbort, type Made, wordsOf } from "../server.ts";
import { siteName } from "./address.ts";
import { answer, choose, type How, kinds, question, wanted } from "./state.ts";

type Values = Readonly<Record<string, string>>;
type Options = readonly (readonly [string, string])[];

interface Field {
  name: string;
  label: string;
  type: "text" | "number" | "lines" | ((values: Values) => Options); // of what else was typed
  missing?: string; // what is said where it is left empty; none where it may be
}

interface Kind {
  name: string;
  fields: readonly Field[];
  there?: () => boolean; // whether the model has any
}

const LAYER: Field = { name: "layer", label: "layer", type: "number", missing: "Say which layer, from 0 on." };
const SETS: readonly Field[] = [
  { name: "positive", label: "texts of one kind, a line each", type: "lines", missing: "Give at least one text of the one kind." },
  { name: "negative", label: "texts of the other", type: "lines", missing: "Give at least one text of the other kind." },
];
const FOUND = 100; // saved directions to choose from; more words find others
const kept = signal<readonly Saved[]>([]);
const hasDictionary = (): boolean => siteName(wanted.value) in (model.value?.dictionaries ?? {});

const KINDS: Record<string, Kind> = {
  token: {
    name: "a token",
    fields: [
      { name: "token", label: "its text, spaces and all", type: "text", missing: "Write the token's text." },
      { name: "minus", label: "less another", type: "text" },
      {
        name: "read",
        label: "what it is",
        type: () => [
          ["unembed", "what makes it likely next"],
          ["embed", "what it is embedded as"],
        ],
      },
    ],
  },
  contrast: { name: "a difference of two sets of texts", fields: SETS },
  probe: { name: "a probe that tells two sets of texts apart", fields: SETS },
  feature: {
    name: "a dictionary feature",
    there: hasDictionary,
    fields: [
      { name: "feature", label: "number", type: "number", missing: "Say the number of the feature, from 0 on." },
      {
        name: "side",
        label: "its",
        type: () => [
          ["decoder", "decoder (what it writes)"],
          ["encoder", "encoder (what it reads)"],
        ],
      },
    ],
  },
  head: {
    name: "a head's singular vector",
    fields: [
      LAYER,
      { name: "head", label: "head", type: "number", missing: "Say which head, from 0 on." },
      {
        name: "circuit",
        label: "circuit",
        type: () => [
          ["OV", "OV"],
          ["QK", "QK"],
        ],
      },
      {
        name: "side",
        label: "side",
        type: ({ circuit }) =>
          circuit === "QK"
            ? [
                ["key", "key (what is looked for)"],
                ["query", "query (what looks for it)"],
              ]
            : [
                ["out", "out (what it writes)"],
                ["in", "in (what it reads)"],
              ],
      },
      { name: "rank", label: "number, from 0", type: "number", missing: "Say which singular vector, from 0 on: 0 is of the largest value." },
    ],
  },
  neuron: {
    name: "a neuron",
    fields: [
      LAYER,
      { name: "neuron", label: "number", type: "number", missing: "Say the number of the neuron, from 0 on." },
      {
        name: "side",
        label: "its",
        type: () => [
          ["out", "output weights"],
          ["in", "input weights"],
          ...(kinds.value.some(({ kind }) => kind === "mlp_up") ? [["gate", "gate weights"] as const] : []),
        ],
      },
    ],
  },
  position: { name: "a position's embedding", fields: [{ name: "pos", label: "position", type: "number", missing: "Say which position, from 0 on." }] },
  pca: {
    name: "a component of another site",
    fields: [
      { name: "site", label: "its site, as resid_post.0", type: "text", missing: "Say the site, as resid_post.0." },
      { name: "component", label: "number", type: "number", missing: "Say the number of the component, from 0 on." },
    ],
  },
  saved: {
    name: "a saved direction",
    fields: [
      { name: "words", label: "words of it", type: "text" },
      { name: "of", label: "which", missing: "No saved direction has these words. Save one first, or give other words.", type: () => kept.value.map((one) => [JSON.stringify(keptOf(one)), `${one.name}, ${one.owner}’s, at ${one.site}`]) },
    ],
  },
};

const chosenOf = (options: Options, value: string | undefined): string => (options.find(([option]) => option === value) ?? options[0])?.[0] ?? "";

/** What was typed, as a direction; throws a sentence on the first field that says nothing it can take. */
function madeOf(kind: string, values: Values): Made {
  const made: Made = { kind };
  for (const { name, type, missing } of KINDS[kind].fields) {
    const value = typeof type === "function" ? chosenOf(type(values), values[name]) : (values[name] ?? "");
    const says = type === "number" ? /^\s*\d+\s*$/.test(value) : type === "lines" ? value.trim() : value;
    if (!says && missing) throw new Error(`${value.trim() && `“${value}” is no whole number. `}${missing}`);
    if (says) made[name] = type === "number" ? Number(value) : type === "lines" ? value.split("\n").filter((line) => line.trim()) : value;
  }
  return kind === "saved" ? JSON.parse(made.of as string) : made;
}

const ACTIONS: readonly (readonly [How, string])[] = [
  ["alone", "Show it"],
  ["mixed", "Add it to the mix"],
  ["beside", "Put it beside"],
];

export function DirectionForm({ how }: { how: How }) {
  const close = useClose();
  const [kind, setKind] = useState("token");
  const [values, setValues] = useState<Record<string, string>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const words = kind === "saved" ? (values.words ?? "") : null;
  useEffect(() => {
    if (words === null) return;
    const controller = new AbortController();
    const put = (found: readonly Saved[]): void => void (kept.value = found.filter(isShown));
    library.find({ words, owner: null, site: "", tag: "", deleted: false, start: 0, count: FOUND }, controller.signal).then(({ directions }) => put(directions), (error) => isAbort(error) || (put([]), setProblem(wordsOf(error))));
    return () => controller.abort();
  }, [words]);
  const submit = async (how: How): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await choose(madeOf(kind, values), how);
      close();
    } catch (error) {
      setProblem(wordsOf(error));
      setBusy(false);
    }
  };
  return (
    <form
      class="maker"
      onSubmit={(event) => {
        event.preventDefault();
        void submit(how);
      }}
    >
      <label>
        <span>or</span>
        <select aria-label="Kind of direction" value={kind} onChange={({ currentTarget }) => (setKind(currentTarget.value), setValues({}), setProblem(null))}>
          {Object.entries(KINDS)
            .filter(([, { there }]) => there?.() ?? true)
            .map(([id, { name }]) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
        </select>
      </label>
      {KINDS[kind].fields.map(({ name, label, type }) => {
        const value = values[name] ?? "";
        const put = (text: string): void => setValues({ ...values, [name]: text });
        return (
          <label key={`${kind} ${name}`}>
            <span>{label}</span>
            {typeof type === "function" ? (
              <select value={chosenOf(type(values), value)} onChange={({ currentTarget }) => put(currentTarget.value)}>
                {type(values).map(([option, text]) => (
                  <option key={option} value={option}>
                    {text}
                  </option>
                ))}
              </select>
            ) : type === "lines" ? (
              <textarea rows={3} value={value} onInput={({ currentTarget }) => put(currentTarget.value)} />
            ) : (
              <input inputMode={type === "number" ? "numeric" : "text"} spellcheck={false} autocomplete="off" value={value} onInput={({ currentTarget }) => put(currentTarget.value)} />
            )}
          </label>
        );
      })}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p>
        {ACTIONS.filter(([action]) => how === "alone" || action === how).map(([action, said]) => (
          <button key={action} type={action === how ? "submit" : "button"} class={action === how ? "solid" : ""} disabled={busy} onClick={action === how ? undefined : () => void submit(action)}>
            {said}
          </button>
        ))}
      </p>
    </form>
  );
}

/** Where a direction that lives elsewhere is meant. */
export function Elsewhere() {
  const { value: asked } = question;
  if (!asked) return null;
  return (
    <div class="panel" role="alertdialog" aria-label="Where it is meant">
      <p>
        {asked.name} lives at {asked.home}, and {siteName(wanted.value)} is shown.
      </p>
      <p class="answers">
        <button type="button" class="solid" onClick={() => answer("there")}>
          Go to {asked.home}
        </button>
        <button type="button" onClick={() => answer("here")}>
          Read it at {siteName(wanted.value)}, marked
        </button>
        <button type="button" onClick={() => answer(null)}>
          Neither
        </button>
      </p>
    </div>
  );
}
