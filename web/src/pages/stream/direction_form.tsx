// Directions of other kinds than a component: what each needs to be said, and where one that lives elsewhere is meant.

import { useState } from "preact/hooks";
import { model } from "../session.ts";
import { type Made, wordsOf } from "../server.ts";
import { siteName } from "./address.ts";
import { answer, choose, type How, question, wanted } from "./state.ts";

interface Field {
  name: string;
  label: string;
  type: "text" | "number" | "lines" | readonly (readonly [string, string])[];
  optional?: boolean;
}

interface Kind {
  name: string;
  fields: readonly Field[];
  there?: () => boolean; // whether the model has any
}

const LAYER: Field = { name: "layer", label: "layer", type: "number" };
const SETS: readonly Field[] = [
  { name: "positive", label: "texts of one kind, a line each", type: "lines" },
  { name: "negative", label: "texts of the other", type: "lines" },
];
const hasDictionary = (): boolean => siteName(wanted.value) in (model.value?.dictionaries ?? {});

const KINDS: Record<string, Kind> = {
  token: {
    name: "a token",
    fields: [
      { name: "token", label: "its text, spaces and all", type: "text" },
      { name: "minus", label: "less another", type: "text", optional: true },
      {
        name: "read",
        label: "what it is",
        type: [
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
      { name: "feature", label: "number", type: "number" },
      {
        name: "side",
        label: "its",
        type: [
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
      { name: "head", label: "head", type: "number" },
      {
        name: "circuit",
        label: "circuit",
        type: [
          ["OV", "OV"],
          ["QK", "QK"],
        ],
      },
      { name: "rank", label: "number, from 0", type: "number" },
    ],
  },
  neuron: {
    name: "a neuron",
    fields: [
      LAYER,
      { name: "neuron", label: "number", type: "number" },
      {
        name: "side",
        label: "its",
        type: [
          ["out", "output weights"],
          ["in", "input weights"],
        ],
      },
    ],
  },
  position: { name: "a position's embedding", fields: [{ name: "pos", label: "position", type: "number" }] },
};

/** What was typed, as a direction; a field that says nothing is left out. */
function madeOf(kind: string, values: Record<string, string>): Made {
  const made: Made = { kind };
  for (const { name, type, optional } of KINDS[kind].fields) {
    const value = values[name] ?? "";
    if (optional && !value) continue;
    if (type === "number") made[name] = Number(value || "0");
    else if (type === "lines") made[name] = value.split("\n").filter((line) => line.trim());
    else made[name] = value || (type === "text" ? "" : type[0][0]);
  }
  return made;
}

const ACTIONS: readonly (readonly [How, string])[] = [
  ["alone", "Show it"],
  ["mixed", "Add it to the mix"],
  ["beside", "Put it beside"],
];

export function DirectionForm({ how, close }: { how: How; close: () => void }) {
  const [kind, setKind] = useState("token");
  const [values, setValues] = useState<Record<string, string>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
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
            {typeof type !== "string" ? (
              <select value={value || type[0][0]} onChange={({ currentTarget }) => put(currentTarget.value)}>
                {type.map(([option, text]) => (
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
