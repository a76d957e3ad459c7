import { count, percent } from "../../numbers.ts";
import { CENTRES, UNITS, Word } from "../../views/legend.tsx";
import { componentOf, siteName } from "./address.ts";
import { DirectionPicker } from "./picker.tsx";
import { change, chooseHead, chooseKind, direction, heads, kinds, layers, picture, wanted } from "./state.ts";

/** What is shown, as a sentence; the marked words change it. */
export function Sentence() {
  const { kind, layer, head, every, beside, units, centre } = wanted.value;
  const shown = picture.value?.site === siteName(wanted.value) && picture.value.component === componentOf(wanted.value) ? picture.value : null;
  const n = layers.value;
  const nHeads = heads.value;
  return (
    <div class="sentence" role="group" aria-label="What is shown">
      <span>
        Show <Word label="Site" value={kind} options={kinds.value.map((site) => [site.kind, site.kind] as const)} onChange={chooseKind} />
      </span>
      {n !== null && layer !== null && (
        <span>
          at{" "}
          <Word
            label="Layer"
            value={every ? "all" : String(layer)}
            options={[["all", "every layer"], ...Array.from({ length: n }, (_, i) => [String(i), `layer ${i}`] as const)]}
            onChange={(value) => (value === "all" ? change({ every: true, beside: null }, { push: true }) : change({ layer: Number(value), every: false }, { push: true }))}
          />
        </span>
      )}
      {nHeads !== null && head !== null && (
        <span>
          of head <Word label="Head" value={String(head)} options={Array.from({ length: nHeads }, (_, i) => [String(i), String(i)] as const)} onChange={(value) => chooseHead(Number(value))} />
        </span>
      )}
      <span>
        along <DirectionPicker />
      </span>
      {shown && (
        <small>
          {percent(shown.sum.share)} of variance, {count(shown.pca.n_tokens)} tokens
        </small>
      )}
      {beside && (
        <span>
          beside <span class="beside">{picture.value?.others.at(-1)?.name ?? "…"}</span>{" "}
          <button type="button" aria-label="Leave the second direction out" onClick={() => change({ beside: null }, { push: true })}>
            ×
          </button>
        </span>
      )}
      <span>
        centred on <Word label="Centre" value={centre} options={CENTRES} onChange={(value) => change({ centre: value })} />
      </span>
      <span>
        in <Word label="Unit" value={direction.value?.deviation === null ? "stream" : units} options={direction.value?.deviation === null ? UNITS.slice(1) : UNITS} onChange={(value) => change({ units: value })} />
      </span>
    </div>
  );
}
