// The page Stream: texts coloured by one direction of the residual stream.

import { CENTRES, Legend } from "../../views/legend.tsx";
import { open, type Command } from "../keys.ts";
import { isSomebody } from "../me.tsx";
import { say } from "../notes.tsx";
import { model } from "../session.ts";
import { Status, useLate } from "../status.tsx";
import { componentOf, STEER } from "./address.ts";
import { EXPORTS, Exports, runExport } from "./exports.tsx";
import { Find } from "./find.tsx";
import { retry } from "./history.ts";
import { Elsewhere } from "./direction_form.tsx";
import { Inspector } from "./inspector.tsx";
import { Mix } from "./mix.tsx";
import { SaveForm } from "./save.tsx";
import { Sentence } from "./sentence.tsx";
import * as state from "./state.ts";
import { Steering } from "./steer.tsx";
import { AddText, Skeleton, Texts } from "./texts.tsx";

function Range() {
  const { value: direction } = state.direction;
  if (!direction) return null;
  const { units, scale } = state.settings.value;
  return (
    <Legend
      limit={Math.max(...state.limits.value, 0) || 1}
      units={direction.deviation === null ? "stream" : units}
      scale={scale}
      leftOut={direction.left_out}
      several
      onScale={(value) => state.change({ scale: value })}
    />
  );
}

const toggleSteer = (): void => state.change({ steer: state.wanted.value.steer ? null : STEER });
const save = (): void => void (open.value === "save" ? (open.value = null) : isSomebody() && state.picture.value && (open.value = "save"));
const toggleFind = (): void => state.change({ find: state.wanted.value.find ? null : { by: "text", token: "" } });
const toggleMix = (): void => state.change({ mixing: !state.wanted.value.mixing });

export function Stream() {
  const ready = model.value !== null && state.wanted.value.kind !== "";
  const old = useLate(state.work.value !== null, 100) || state.trouble.value !== null;
  const warning = state.picture.value?.pca.warning;
  return (
    <>
      <main id="main" tabIndex={-1}>
        <div class="strip">
          {ready && (
            <>
              <Sentence />
              <div class="controls">
                <Range />
                <div class="openers">
                  <button type="button" aria-expanded={state.wanted.value.mixing} onClick={toggleMix}>
                    Mix
                  </button>
                  <button type="button" title="Put another direction beside this one" onClick={() => (open.value = "besider")}>
                    Compare
                  </button>
                  <button type="button" aria-expanded={open.value === "save"} onClick={save}>
                    Save
                  </button>
                  <button type="button" aria-expanded={state.wanted.value.find !== null} onClick={toggleFind}>
                    Find
                  </button>
                  <button type="button" aria-expanded={state.wanted.value.steer !== null} onClick={toggleSteer}>
                    Steer
                  </button>
                </div>
                <Exports />
              </div>
              <Mix />
              <Elsewhere />
              {open.value === "save" && <SaveForm />}
            </>
          )}
          <Status work={state.work.value} trouble={state.trouble.value} retry={retry} still={state.picture.value?.name ?? null} />
        </div>
        {warning && (
          <p class="warning" role="note">
            {warning}
          </p>
        )}
        {ready && <Find />}
        {ready && <Steering />}
        {ready && <AddText />}
        <p class="doors">
          <a href="/lens">See how the prediction forms</a>
          <a href="/patch?site=z">Which head moved the name?</a>
          <a href="/heads">What does every head do?</a>
          {Object.keys(model.value?.dictionaries ?? {}).length > 1 && <a href="/graph">Which feature caused which?</a>}
        </p>
        <div class={old ? "picture old" : "picture"} aria-busy={state.work.value !== null}>
          {state.picture.value ? <Texts /> : !state.trouble.value && <Skeleton />}
        </div>
      </main>
      <Inspector />
    </>
  );
}

const step = (by: number) => (): void => state.chooseComponent((componentOf(state.wanted.value) ?? -by) + by);
const stepLayer = (by: number) => (): void => state.chooseLayer((state.wanted.value.layer ?? 0) + by);

export const commands: Command[] = [
  { id: "layer-down", label: "Layer down", key: "[", run: stepLayer(-1) },
  { id: "layer-up", label: "Layer up", key: "]", run: stepLayer(1) },
  { id: "next", label: "Next component", key: "j", run: step(1) },
  { id: "previous", label: "Previous component", key: "k", run: step(-1) },
  { id: "add", label: "Add a text", key: "t", run: () => document.getElementById("add")?.focus() },
  { id: "link", label: "Copy link", key: "l", run: () => void runExport("Link") },
  { id: "export", label: "Go to the exports", key: "e", run: () => document.querySelector<HTMLElement>(".tools button")?.focus() },
  { id: "mix", label: "Sliders: mix directions", key: "m", run: toggleMix },
  { id: "steer", label: "Steer: write on with the direction", key: "w", run: toggleSteer },
  { id: "save", label: "Save this direction", key: "s", run: save },
  { id: "find", label: "Find directions by text, token or likeness", run: toggleFind },
  { id: "compare", label: "Put another direction beside this one", run: () => (open.value = "besider") },
  { id: "layers", label: "Show every layer at once, or one", key: "v", run: () => state.change({ every: !state.wanted.value.every, beside: null }, { push: true }) },
  { id: "component", label: "Choose a direction", run: () => (open.value = "picker") },
  ...EXPORTS.slice(1).map(([name, title]): Command => ({ id: `export-${name}`, label: `${name}: ${title[0].toLowerCase()}${title.slice(1)}`, run: () => void runExport(name) })),
  { id: "sd", label: "Show standard deviations", run: () => state.change({ units: "sd" }) },
  { id: "stream", label: "Show units of the stream", run: () => state.change({ units: "stream" }) },
  ...CENTRES.map(([centre, name]): Command => ({ id: `centre-${centre}`, label: `Centre on ${name}`, run: () => state.change({ centre }) })),
  { id: "shared", label: "One range of colours for all texts", run: () => state.change({ scale: { mode: "shared" } }) },
  { id: "per-text", label: "A range of colours for each text", run: () => state.change({ scale: { mode: "text" } }) },
];

/** Sites and components that a search names: "resid_post 3", "pca 7". */
export function entries(query: string): Command[] {
  const words = query.toLowerCase().split(/[\s.]+/).filter(Boolean);
  const number = words.map(Number).find(Number.isInteger);
  const names = words.filter((word) => !/^\d+$/.test(word));
  const found: Command[] = [];
  for (const { kind, n_layers, meaning } of state.kinds.value) {
    if (!names.every((name) => `${kind} layer site`.includes(name))) continue;
    for (let layer = 0; layer < (n_layers ?? 1); layer++) {
      if (number !== undefined && (n_layers === null || layer !== number)) continue;
      const site = n_layers === null ? kind : `${kind} ${layer}`;
      found.push({ id: `site ${site}`, label: `${site}: ${meaning}`, run: () => state.change(state.nearest(kind, { layer: n_layers === null ? null : layer, head: state.wanted.peek().head }), { push: true }) });
    }
  }
  const token = /^tokens? (.+)$/i.exec(query)?.[1];
  if (token) {
    const show = (text: string): Command => ({ id: `token ${text}`, label: `What makes “${text}” likely`, run: () => void state.choose({ kind: "token", token: text }, "alone").catch(({ message }: Error) => say(message)) });
    found.unshift(show(` ${token}`), show(token));
  }
  if (number !== undefined && number < state.nComponents.value && names.every((name) => "pca component direction".includes(name)))
    found.unshift({ id: `pca ${number}`, label: `PCA ${number} of this site`, run: () => state.chooseComponent(number) });
  return found;
}
