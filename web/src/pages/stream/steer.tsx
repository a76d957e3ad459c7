// Steering: the model writes on from a prompt, without the direction that is shown and with it.

import { useState } from "preact/hooks";
import { Word } from "../../views/legend.tsx";
import steering from "../../views/steering.tsx";
import { useAnalysis } from "../analysis.ts";
import { say } from "../notes.tsx";
import { Hosted } from "../hosted.tsx";
import { Status } from "../status.tsx";
import type { Steer } from "./address.ts";
import { alongOf, change, picture, wanted } from "./state.ts";

const NUMBERS = ["strength", "n_tokens", "temperature", "seed"] as const;

export function Steering() {
  const { found, ask } = useAnalysis();
  const { steer } = wanted.value;
  if (!steer) return null;
  const put = (patch: Partial<Steer>): void => change({ steer: { ...steer, ...patch } });
  const write = (): void => {
    const now = picture.value;
    if (now) ask("steer", { ...wanted.peek().steer, site: now.site, along: alongOf(now) });
  };
  const typed = (name: (typeof NUMBERS)[number], label: string) => <Typed key={name} value={steer[name]} label={label} put={(value) => put({ [name]: value })} />;
  return (
    <section class="steer" aria-label="Steering">
      <form
        class="add"
        onSubmit={(event) => {
          event.preventDefault();
          write();
        }}
      >
        <textarea
          aria-label="Prompt to write on from"
          placeholder="Write on from…"
          rows={1}
          spellcheck={false}
          value={steer.prompt}
          onInput={({ currentTarget }) => put({ prompt: currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            write();
          }}
        />
        <button type="submit" class="solid" disabled={!picture.value}>
          Write
        </button>
      </form>
      <div class="sentence" role="group" aria-label="How it is steered">
        <span>Add {typed("strength", "Strength")}</span>
        <Word
          label="Unit of the strength"
          value={steer.unit}
          options={[
            ["sd", "standard deviations"],
            ["stream", "units of the stream"],
            ["norm", "times the prompt's median norm"],
          ]}
          onChange={(unit) => put({ unit })}
        />
        <span>
          of it to{" "}
          <Word
            label="Where it is added"
            value={steer.on}
            options={[
              ["both", "prompt and new tokens"],
              ["prompt", "the prompt"],
              ["new", "the new tokens"],
            ]}
            onChange={(on) => put({ on })}
          />
        </span>
        <Word
          label="Position 0"
          value={steer.first ? "with" : "without"}
          options={[
            ["without", "but not position 0"],
            ["with", "with position 0"],
          ]}
          onChange={(first) => put({ first: first === "with" })}
        />
        <span>and write {typed("n_tokens", "New tokens")} tokens</span>
        <span>at temperature {typed("temperature", "Temperature")}</span>
        <span>from seed {typed("seed", "Seed")}</span>
      </div>
      {found && <Status work={found.work} trouble={found.trouble} retry={write} still={null} />}
      {found?.data && <Hosted view={steering} keys={{ bare: false, data: found.data }} on={{}} />}
    </section>
  );
}

/** A number of the sentence; what is none is put back. */
function Typed({ value, label, put }: { value: number; label: string; put: (value: number) => void }) {
  const [text, setText] = useState<string | null>(null);
  return (
    <input
      class="typed"
      inputMode="decimal"
      aria-label={label}
      value={text ?? String(value)}
      onInput={({ currentTarget }) => {
        setText(currentTarget.value);
        const number = Number(currentTarget.value);
        if (currentTarget.value.trim() && Number.isFinite(number)) put(number);
      }}
      onBlur={() => {
        if (text !== null && !(text.trim() && Number.isFinite(Number(text)))) say(`“${text}” is no number: ${label.toLowerCase()} stays ${value}.`, { seconds: 6 });
        setText(null);
      }}
    />
  );
}
